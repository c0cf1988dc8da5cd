"""Integrators of underdamped dynamics: kernels of one step, scored by the moves that are random.

A step is made of three moves. O renews a part of the momentum and is random. B, a kick by the
force, and A, a drift by the velocity, are deterministic and preserve volume. The backward chain
takes the moves back in reverse order, through the same states, so that only the densities of the
renewals enter the weights.

Reference: Blessing, Berner, Richter and Neumann (2025), arXiv:2503.01006.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge._core.normal import normal_log_prob
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.processes.kernels import AbstractKernel, momentum_of
from numpyro_bridge.target import Point, Target


class Dynamics(eqx.Module):
    """What moves a state in one step of one of the two chains.

    Args:
        target: The density that is evaluated where a step ends.
        step_size: Length of the step in time; positive in the forward chain, negative in the
            backward chain.
        friction: Rate at which momentum is renewed, shape `(dim,)`.
        mass: Variance of the momentum at rest, shape `(dim,)`.
        force: Gradient of a log density at a point.
        control: Learned drift of the momentum at a point that has one.
    """

    target: Target
    step_size: Scalar
    friction: Vector
    mass: Vector
    force: Callable[[Point], Vector]
    control: Callable[[Point], Vector]

    def kick(self, point: Point, momentum: Vector, part: float = 0.5) -> Vector:
        """B: the momentum after the force at a point has acted for a part of the step."""
        return momentum + part * self.step_size * self.force(point)

    def drift(self, position: Vector, momentum: Vector, part: float = 1.0) -> Vector:
        """A: the position after moving with a momentum for a part of the step."""
        return position + part * self.step_size * momentum / self.mass

    def renewal(self, point: Point, part: float = 1.0) -> tuple[Vector, Vector]:
        """O: mean and standard deviation of the momentum that replaces the one of a point.

        Without control this is an exact step of an Ornstein-Uhlenbeck process.
        """
        time = part * jnp.abs(self.step_size) * self.friction
        variance = -jnp.expm1(-2 * time) * self.mass
        mean = jnp.exp(-time) * momentum_of(point) + variance * self.control(point)
        return mean, jnp.sqrt(variance)


class AbstractIntegrator(eqx.Module):
    """An order of moves, which makes the kernels of the two chains.

    `fixes_force` says whether the force is determined by the states before and after it acted,
    `fixes_step` whether step size and mass are.
    """

    fixes_force: eqx.AbstractClassVar[bool]
    fixes_step: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def forward(self, start: Point, dynamics: Dynamics) -> AbstractKernel:
        """The kernel that takes the moves in order."""

    @abc.abstractmethod
    def backward(self, start: Point, dynamics: Dynamics) -> AbstractKernel:
        """The kernel that takes the moves back, for `dynamics` with a negative step size."""


class EulerMaruyama(AbstractIntegrator):
    """One normal draw renews and kicks the momentum, then a drift: simplest, and of first order.

    >>> process = partial(nb.UnderdampedCMCD, integrator=nb.processes.EulerMaruyama())
    >>> sampler = nb.BridgeSampler(model, process=process)
    """

    fixes_force: ClassVar[bool] = False
    fixes_step: ClassVar[bool] = True

    def forward(self, start: Point, dynamics: Dynamics) -> "_KickedDrift":
        return _KickedDrift(start, dynamics)

    def backward(self, start: Point, dynamics: Dynamics) -> "_DriftedKick":
        return _DriftedKick(start, dynamics)


class OBAB(AbstractIntegrator):
    """A whole renewal, then a leapfrog step; of second order.

    >>> process = partial(nb.UnderdampedCMCD, integrator=nb.processes.OBAB())
    >>> sampler = nb.BridgeSampler(model, process=process)
    """

    fixes_force: ClassVar[bool] = True
    fixes_step: ClassVar[bool] = True

    def forward(self, start: Point, dynamics: Dynamics) -> "_RenewedLeap":
        return _RenewedLeap(start, dynamics)

    def backward(self, start: Point, dynamics: Dynamics) -> "_LeapRenewed":
        return _LeapRenewed(start, dynamics)


class BAOAB(AbstractIntegrator):
    """A leapfrog step with the renewal in its middle; of second order, and the same in reverse.

    >>> process = partial(nb.UnderdampedCMCD, integrator=nb.processes.BAOAB())
    >>> sampler = nb.BridgeSampler(model, process=process)
    """

    fixes_force: ClassVar[bool] = True
    fixes_step: ClassVar[bool] = True

    def forward(self, start: Point, dynamics: Dynamics) -> "_LeapAround":
        return _LeapAround(start, dynamics)

    def backward(self, start: Point, dynamics: Dynamics) -> "_LeapAround":
        return _LeapAround(start, dynamics)


class OBABO(AbstractIntegrator):
    """A leapfrog step between two half renewals; of second order, and the same in reverse.

    >>> process = partial(nb.UnderdampedCMCD, integrator=nb.processes.OBABO())
    >>> sampler = nb.BridgeSampler(model, process=process)

    This is the default. Two renewals can lead from every state to every other, so the step has a
    density, and every loss can learn all of its parameters.
    """

    fixes_force: ClassVar[bool] = False
    fixes_step: ClassVar[bool] = False

    def forward(self, start: Point, dynamics: Dynamics) -> "_LeapBetween":
        return _LeapBetween(start, dynamics)

    def backward(self, start: Point, dynamics: Dynamics) -> "_LeapBetween":
        return _LeapBetween(start, dynamics)


# Each kernel below is one order of moves. It serves both chains if that order is its own reverse.


class _Step(AbstractKernel):
    start: Point
    dynamics: Dynamics

    def _arrive(self, position: Vector) -> Point:
        return self.dynamics.target.at(position)


class _KickedDrift(_Step):
    def sample(self, rng_key: RNGKey) -> Point:
        mean, scale = _kicked(self.dynamics, self.start, self.start)
        momentum = _normal(rng_key, mean, scale)
        point = self._arrive(self.dynamics.drift(self.start.position, momentum))
        return point._replace(momentum=momentum)

    def log_prob(self, point: Point) -> Scalar:
        return normal_log_prob(momentum_of(point), *_kicked(self.dynamics, self.start, self.start))


class _DriftedKick(_Step):
    def sample(self, rng_key: RNGKey) -> Point:
        point = self._arrive(self.dynamics.drift(self.start.position, momentum_of(self.start)))
        mean, scale = _kicked(self.dynamics, point, self.start)
        return point._replace(momentum=_normal(rng_key, mean, scale))

    def log_prob(self, point: Point) -> Scalar:
        return normal_log_prob(momentum_of(point), *_kicked(self.dynamics, point, self.start))


def _kicked(dynamics: Dynamics, place: Point, before: Point) -> tuple[Vector, Vector]:
    """Mean and scale of an Euler-Maruyama step of the momentum of `before` at the place `place`."""
    time = jnp.abs(dynamics.step_size) * dynamics.friction
    variance = 2 * time * dynamics.mass
    drift = variance * dynamics.control(place._replace(momentum=momentum_of(before)))
    mean = dynamics.kick(place, momentum_of(before), 1.0) - time * momentum_of(before) + drift
    return mean, jnp.sqrt(variance)


class _RenewedLeap(_Step):
    def sample(self, rng_key: RNGKey) -> Point:
        momentum = _normal(rng_key, *self.dynamics.renewal(self.start))
        momentum = self.dynamics.kick(self.start, momentum)
        point = self._arrive(self.dynamics.drift(self.start.position, momentum))
        return point._replace(momentum=self.dynamics.kick(point, momentum))

    def log_prob(self, point: Point) -> Scalar:
        momentum = self.dynamics.kick(point, momentum_of(point), -0.5)
        momentum = self.dynamics.kick(self.start, momentum, -0.5)
        return normal_log_prob(momentum, *self.dynamics.renewal(self.start))


class _LeapRenewed(_Step):
    def sample(self, rng_key: RNGKey) -> Point:
        momentum = self.dynamics.kick(self.start, momentum_of(self.start))
        point = self._arrive(self.dynamics.drift(self.start.position, momentum))
        point = point._replace(momentum=self.dynamics.kick(point, momentum))
        return point._replace(momentum=_normal(rng_key, *self.dynamics.renewal(point)))

    def log_prob(self, point: Point) -> Scalar:
        momentum = self.dynamics.kick(self.start, momentum_of(self.start))
        before = point._replace(momentum=self.dynamics.kick(point, momentum))
        return normal_log_prob(momentum_of(point), *self.dynamics.renewal(before))


class _LeapAround(_Step):
    def sample(self, rng_key: RNGKey) -> Point:
        middle = self._middle()
        momentum = _normal(rng_key, *self.dynamics.renewal(middle))
        point = self._arrive(self.dynamics.drift(middle.position, momentum, 0.5))
        return point._replace(momentum=self.dynamics.kick(point, momentum))

    def log_prob(self, point: Point) -> Scalar:
        momentum = self.dynamics.kick(point, momentum_of(point), -0.5)
        return normal_log_prob(momentum, *self.dynamics.renewal(self._middle()))

    def _middle(self) -> Point:
        """The state in the middle of the step, where the momentum is renewed.

        The target is not evaluated there, so the control sees the score at the start of the step.
        """
        momentum = self.dynamics.kick(self.start, momentum_of(self.start))
        position = self.dynamics.drift(self.start.position, momentum, 0.5)
        return self.start._replace(position=position, momentum=momentum)


class _LeapBetween(_Step):
    def sample(self, rng_key: RNGKey) -> Point:
        first_key, second_key = jax.random.split(rng_key)
        momentum = _normal(first_key, *self.dynamics.renewal(self.start, 0.5))
        momentum = self.dynamics.kick(self.start, momentum)
        point = self._arrive(self.dynamics.drift(self.start.position, momentum))
        point = point._replace(momentum=self.dynamics.kick(point, momentum))
        return point._replace(momentum=_normal(second_key, *self.dynamics.renewal(point, 0.5)))

    def log_prob(self, point: Point) -> Scalar:
        rate = self.dynamics.step_size / self.dynamics.mass
        moving = (point.position - self.start.position) / rate
        renewed = self.dynamics.kick(self.start, moving, -0.5)
        arrived = point._replace(momentum=self.dynamics.kick(point, moving))
        # The outcome of the first renewal is read off the position that it led to.
        return (
            normal_log_prob(renewed, *self.dynamics.renewal(self.start, 0.5))
            + normal_log_prob(momentum_of(point), *self.dynamics.renewal(arrived, 0.5))
            - jnp.sum(jnp.log(jnp.abs(rate)))
        )


def _normal(rng_key: RNGKey, mean: Vector, scale: Vector) -> Vector:
    return mean + scale * jax.random.normal(rng_key, mean.shape, mean.dtype)
