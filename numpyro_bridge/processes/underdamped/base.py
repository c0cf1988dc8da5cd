"""What underdamped samplers share: states with a momentum, moved by an integrator."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.processes.initial import AbstractInitialDistribution
from numpyro_bridge.processes.integrators import AbstractIntegrator, Dynamics
from numpyro_bridge.processes.kernels import AbstractKernel, AtRest, WithMomentum, momentum_of
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.clipped import clipped_score


class AbstractUnderdamped(AbstractProcess[None]):
    r"""Position $x$ and momentum $p$; noise and control act on the momentum alone.

    In continuous time, with a force $F$, friction $\gamma$ and masses $M$,

    $$dx = M^{-1} p\,dt, \qquad dp = \left[F_t(x) - \gamma p + 2 \gamma M u_t(x, p)\right] dt +
      \sqrt{2 \gamma M}\,dW$$

    and the backward chain is the same with its own control and time running back. What a step is
    in discrete time is the integrator's business; see `numpyro_bridge.processes.integrators`.

    A subclass says what the force is and what the two controls are.
    """

    initial: eqx.AbstractVar[AbstractInitialDistribution]
    log_step_size: eqx.AbstractVar[Float[Array, " steps"]]
    log_friction: eqx.AbstractVar[Vector]
    log_mass: eqx.AbstractVar[Vector]
    integrator: eqx.AbstractVar[AbstractIntegrator]
    score_bound: eqx.AbstractVar[float]

    @abc.abstractmethod
    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        """The force that acts between `step` and `step + 1`."""

    @abc.abstractmethod
    def force_parameters(self) -> list:
        """Parts of the process that the force reads."""

    def forward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        """Drift of the momentum that is learned; zero where nothing is."""
        return jnp.zeros_like(point.position)

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        """The same for the backward chain, between `step + 1` and `step`."""
        return jnp.zeros_like(point.position)

    def start(self, target: Target) -> WithMomentum:
        return WithMomentum(self.initial.kernel(target), jnp.exp(self.log_mass))

    def extension(self, point: Point) -> AtRest:
        return AtRest(point, jnp.exp(self.log_mass))

    def controls(self, step: Int[Array, ""], point: Point) -> None:
        return None  # an integrator looks at states between the steps too

    def forward(self, step: Int[Array, ""], state: State[None], target: Target) -> AbstractKernel:
        dynamics = self._dynamics(step, target, 1.0, self.forward_control)
        return self.integrator.forward(state.point, dynamics)

    def backward(self, step: Int[Array, ""], state: State[None], target: Target) -> AbstractKernel:
        dynamics = self._dynamics(step, target, -1.0, self.backward_control)
        return self.integrator.backward(state.point, dynamics)

    def fixed_by_states(self) -> list:
        step = [self.log_step_size, self.log_mass] if self.integrator.fixes_step else []
        return step + (self.force_parameters() if self.integrator.fixes_force else [])

    def _dynamics(self, step: Int[Array, ""], target: Target, sign: float, control) -> Dynamics:
        return Dynamics(
            target,
            sign * jnp.exp(self.log_step_size[step]),
            jnp.exp(self.log_friction),
            jnp.exp(self.log_mass),
            force=lambda point: self.force(step, point),
            control=lambda point: control(step, point),
        )


def phase_control(rng_key: RNGKey, dim: int, width: int, depth: int) -> ScoreInformedControl:
    """A control that sees position, momentum and score."""
    return ScoreInformedControl(rng_key, dim, width, depth, num_inputs=2 * dim)


def evaluate(
    control: ScoreInformedControl, process: AbstractUnderdamped, step: Int[Array, ""], point: Point
) -> Vector:
    """The control at a point somewhere between `step` and `step + 1`."""
    score = clipped_score(point.score, bound=process.score_bound)
    inputs = jnp.concatenate([point.position, momentum_of(point)])
    return control((step + 0.5) / process.num_steps, inputs, score)


def filled(shape: int, value: float) -> Float[Array, " n"]:
    """Logarithms of numbers that are equal at first."""
    return jnp.full(shape, jnp.log(value), jnp.result_type(float))


def check_settings(num_steps: int, step_size: float, friction: float) -> None:
    """Raise a ValueError that says what to write instead."""
    if num_steps < 1:
        raise ValueError(f"a bridge needs at least one step, got num_steps={num_steps}")
    if not (step_size > 0 and friction > 0):
        raise ValueError(f"step_size and friction must be positive, got {step_size} and {friction}")
