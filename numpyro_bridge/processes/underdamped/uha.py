"""Uncorrected Hamiltonian annealing: momentum without a network."""

import equinox as eqx
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.base import annealed_score
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.integrators import OBABO, AbstractIntegrator
from numpyro_bridge.processes.underdamped.base import (
    AbstractUnderdamped,
    check_settings,
    filled,
)
from numpyro_bridge.target import Point
from numpyro_bridge.target.clipped import clipped_score


class UHA(AbstractUnderdamped):
    r"""Annealed importance sampling with Hamiltonian moves and partial renewal of momentum.

    The force is $\nabla \log \pi_{\beta_{k+1}}$ with $\pi_\beta \propto p_0^{1-\beta}
    \gamma^{\beta}$; there is no control. A baseline: what `UnderdampedCMCD` is before its
    control is trained.

    Args:
        rng_key: Not used; all samplers are made alike.
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
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1, or `step_size` or `friction` is not positive.

    Reference: Geffner and Domke (2021), arXiv:2107.04150; Zhang, Hsu, Li, Finn and Grosse (2021),
    arXiv:2107.10211.
    """

    annealing: AnnealingSchedule
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
        score_bound: float = 10.0,
    ):
        check_settings(num_steps, step_size, friction)
        self.annealing = AnnealingSchedule(num_steps)
        self.initial = InitialNormal(dim) if initial is None else initial
        self.log_step_size = filled(num_steps, step_size)
        self.log_friction = filled(dim, friction)
        self.log_mass = filled(dim, 1.0)
        self.integrator = OBABO() if integrator is None else integrator
        self.num_steps = num_steps
        self.score_bound = score_bound

    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        score = clipped_score(point.score, bound=self.score_bound)
        return annealed_score(self.annealing()[step + 1], self.initial, point, score)

    def force_parameters(self) -> list:
        return [self.annealing, self.initial]
