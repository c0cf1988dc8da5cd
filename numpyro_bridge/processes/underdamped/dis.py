"""Underdamped time-reversed diffusion sampler."""

import equinox as eqx
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.integrators import OBABO, AbstractIntegrator
from numpyro_bridge.processes.underdamped.base import (
    AbstractUnderdamped,
    check_settings,
    evaluate,
    filled,
    phase_control,
)
from numpyro_bridge.target import Point


class UnderdampedDIS(AbstractUnderdamped):
    r"""A noising Langevin diffusion with momentum, run backward by a learned control.

    The force is the score of the initial law and the backward chain has no control: it is fixed
    and forgets where it came from. With no control the bridge is exact where the target is the
    initial law, to second order in the step.

    Args:
        rng_key: Randomness of the network's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge; the gap to the log evidence falls as it grows.
        step_size: First length of every step in time; with masses of one, positions move by about
            this much in units of the standardised coordinates.
        friction: First rate at which momentum is renewed.
        integrator: Order of moves: `nb.processes.OBABO()`, `nb.processes.BAOAB()`, `nb.processes.OBAB()` or
            `nb.processes.EulerMaruyama()`. With any but the first, losses that hold the states fixed cannot
            learn step sizes and masses, nor, with BAOAB and OBAB, the force; they leave them as
            they are.
        width: Units of each hidden layer.
        depth: Hidden layers.
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1, or `step_size` or `friction` is not positive.

    Reference: Blessing, Berner, Richter and Neumann (2025), arXiv:2503.01006.
    """

    control: ScoreInformedControl
    initial: InitialNormal
    log_step_size: Float[Array, " steps"]
    log_friction: Vector
    log_mass: Vector
    integrator: AbstractIntegrator
    num_steps: int = eqx.field(static=True)
    score_bound: float = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 64,
        step_size: float = 0.25,
        friction: float = 1.0,
        integrator: AbstractIntegrator | None = None,
        width: int = 64,
        depth: int = 2,
        score_bound: float = 10.0,
    ):
        check_settings(num_steps, step_size, friction)
        self.control = phase_control(rng_key, dim, width, depth)
        self.initial = InitialNormal(dim)
        self.log_step_size = filled(num_steps, step_size)
        self.log_friction = filled(dim, friction)
        self.log_mass = filled(dim, 1.0)
        self.integrator = OBABO() if integrator is None else integrator
        self.num_steps = num_steps
        self.score_bound = score_bound

    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        return self.initial.score(point)

    def force_parameters(self) -> list:
        return [self.initial]

    def forward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return evaluate(self.control, self, step, point)
