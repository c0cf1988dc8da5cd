"""Underdamped diffusion bridge sampler."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.integrators import OBABO, AbstractIntegrator
from numpyro_bridge.processes.underdamped.base import (
    AbstractUnderdamped,
    check_settings,
    evaluate,
    filled,
    phase_control,
)
from numpyro_bridge.target import Point
from numpyro_bridge.target.clipped import clipped_score


class UnderdampedDBS(AbstractUnderdamped):
    r"""Hamiltonian dynamics of the target with friction, and a control in each chain.

    The force is the score of the target throughout. More flexible than `UnderdampedCMCD` and
    slower to train.

    Args:
        rng_key: Randomness of the networks' first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge; the gap to the log evidence falls as it grows.
        step_size: First length of every step in time; with masses of one, positions move by about
            this much in units of the standardised coordinates.
        friction: First rate at which momentum is renewed.
        integrator: Order of moves: `nb.processes.OBABO()`, `nb.processes.BAOAB()`, `nb.processes.OBAB()` or
            `nb.processes.EulerMaruyama()`. With any but the first, losses that hold the states fixed cannot
            learn step sizes and masses, nor, with BAOAB and OBAB, the force; they leave them as
            they are.
        initial: Where the bridge starts; standard normal if not given.
        width: Units of each hidden layer.
        depth: Hidden layers.
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1, or `step_size` or `friction` is not positive.

    Reference: Blessing, Berner, Richter and Neumann (2025), arXiv:2503.01006. Departs
    from it in the force, which is zero there.
    """

    forward_drift: ScoreInformedControl
    backward_drift: ScoreInformedControl
    initial: AbstractInitialDistribution
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
        initial: AbstractInitialDistribution | None = None,
        width: int = 64,
        depth: int = 2,
        score_bound: float = 10.0,
    ):
        check_settings(num_steps, step_size, friction)
        forward_key, backward_key = jax.random.split(rng_key)
        self.forward_drift = phase_control(forward_key, dim, width, depth)
        self.backward_drift = phase_control(backward_key, dim, width, depth)
        self.initial = InitialNormal(dim) if initial is None else initial
        self.log_step_size = filled(num_steps, step_size)
        self.log_friction = filled(dim, friction)
        self.log_mass = filled(dim, 1.0)
        self.integrator = OBABO() if integrator is None else integrator
        self.num_steps = num_steps
        self.score_bound = score_bound

    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        return clipped_score(point.score, bound=self.score_bound)

    def force_parameters(self) -> list:
        return []

    def forward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return evaluate(self.forward_drift, self, step, point)

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return evaluate(self.backward_drift, self, step, point)
