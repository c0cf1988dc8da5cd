"""What underdamped samplers share: states with a momentum, moved by an integrator."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from numpyro_bridge._core.checks import check_instance
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.processes.controls import (
    AbstractControl,
    MakesControl,
    ScoreInformedControl,
    make_control,
)
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.processes.integrators import OBABO, AbstractIntegrator, Dynamics
from numpyro_bridge.processes.kernels import AbstractKernel, AtRest, WithMomentum, momentum_of
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from numpyro_bridge.target import Point, Target


class AbstractUnderdamped(AbstractProcess[None]):
    r"""Position $x$ and momentum $p$; noise and control act on the momentum alone.

    In continuous time, with a force $F$, friction $\gamma$ and masses $M$,

    $$dx = M^{-1} p\,dt, \qquad dp = \left[F_t(x) - \gamma p + 2 \gamma M u_t(x, p)\right] dt +
      \sqrt{2 \gamma M}\,dW$$

    and the backward chain is the same with its own control and time running back. The integrator
    decides what a step is in discrete time; see `numpyro_bridge.processes.integrators`.

    A subclass says what the force is and what the two controls are.
    """

    initial: eqx.AbstractVar[AbstractInitialDistribution]
    scales: eqx.AbstractVar[UnderdampedScales]
    integrator: eqx.AbstractVar[AbstractIntegrator]

    @abc.abstractmethod
    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        """The force that acts between `step` and `step + 1`."""

    @abc.abstractmethod
    def force_parameters(self) -> list[Any]:
        """The parts of the process that the force is computed from."""

    def forward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        """The learned drift of the momentum; zero unless a subclass learns one."""
        return jnp.zeros_like(point.position)

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        """The learned drift in the backward chain, between `step + 1` and `step`."""
        return jnp.zeros_like(point.position)

    def start(self, target: Target) -> WithMomentum:
        return WithMomentum(self.initial.kernel(target), self.scales.mass)

    def extension(self, point: Point) -> AtRest:
        return AtRest(point, self.scales.mass)

    def controls(self, step: Int[Array, ""], point: Point) -> None:
        return None  # the integrator evaluates controls, also at states between the steps

    def forward(self, step: Int[Array, ""], state: State[None], target: Target) -> AbstractKernel:
        dynamics = self._dynamics(step, target, 1.0, self.forward_control)
        return self.integrator.forward(state.point, dynamics)

    def backward(self, step: Int[Array, ""], state: State[None], target: Target) -> AbstractKernel:
        dynamics = self._dynamics(step, target, -1.0, self.backward_control)
        return self.integrator.backward(state.point, dynamics)

    def fixed_by_states(self) -> list[Any]:
        moves = [self.scales.log_step_size, self.scales.log_mass]
        step = moves if self.integrator.fixes_step else []
        return step + (self.force_parameters() if self.integrator.fixes_force else [])

    def widened(self, factor: float) -> AbstractProcess[Any]:
        """The same sampler with wider noise, and a wider start unless the states determine it."""
        if not self.fixed_by_states():
            return super().widened(factor)
        return eqx.tree_at(lambda p: p.scales, self, self.scales.widened(factor))

    def _dynamics(self, step: Int[Array, ""], target: Target, sign: float, control) -> Dynamics:
        return Dynamics(
            target,
            sign * jnp.exp(self.scales.log_step_size[step]),
            jnp.exp(self.scales.log_friction),
            self.scales.mass,
            force=lambda point: self.force(step, point),
            control=lambda point: control(step, point),
        )

    def _evaluated(self, control: AbstractControl, step: Int[Array, ""], point: Point) -> Vector:
        """A control at a point somewhere between `step` and `step + 1`."""
        inputs = jnp.concatenate([point.position, momentum_of(point)])
        return control((step + 0.5) / self.num_steps, inputs, point.score)


class AbstractAnnealedForce(AbstractUnderdamped):
    r"""An underdamped sampler whose force is $\nabla \log \pi_{\beta_{k+1}}$.

    Here $\pi_\beta \propto p_0^{1-\beta} \gamma^{\beta}$ is the path of an annealing schedule.
    """

    annealing: eqx.AbstractVar[AnnealingSchedule]

    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        return self.annealing.score(step + 1, self.initial, point)

    def force_parameters(self) -> list[Any]:
        return [self.annealing, self.initial]


class AbstractControlledForce(AbstractAnnealedForce):
    """Such a sampler with one control. A subclass says which of the two chains it steers."""

    annealing: AnnealingSchedule
    control: AbstractControl
    initial: AbstractInitialDistribution
    scales: UnderdampedScales
    integrator: AbstractIntegrator
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 64,
        step_size: float = 0.25,
        friction: float = 1.0,
        integrator: AbstractIntegrator | None = None,
        initial: AbstractInitialDistribution | None = None,
        control: MakesControl = ScoreInformedControl,
    ):
        scales = {"step_size": step_size, "friction": friction}
        num_steps = check_constructor(rng_key, dim, num_steps, **scales)
        self.scales = UnderdampedScales(num_steps, dim, step_size, friction)
        self.annealing = AnnealingSchedule(num_steps)
        self.control = make_control(control, rng_key, dim, num_inputs=2 * dim)
        self.initial = chosen_or_normal(initial, dim)
        self.integrator = chosen_or_obabo(integrator)
        self.num_steps = num_steps


def chosen_or_obabo(integrator: AbstractIntegrator | None) -> AbstractIntegrator:
    """The integrator that a constructor was given, or the default.

    Raises:
        ValueError: if `integrator` is anything else.
    """
    if integrator is None:
        return OBABO()
    check_instance("integrator", integrator, AbstractIntegrator, "nb.processes.OBABO()")
    return integrator
