"""Monte Carlo diffusion: annealed Langevin dynamics against a learned way back."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.base import (
    AbstractProcess,
    State,
    annealed_score,
    check_steps,
    constant_diffusion,
    euler,
)
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.clipped import clipped_score


class MCDControls(NamedTuple):
    """Half the annealed score, and what the backward chain adds to it."""

    langevin: Vector
    control: Vector


class MCD(AbstractProcess[MCDControls]):
    r"""Forward as annealed Langevin dynamics does, backward by a learned drift.

    With $\pi_\beta \propto p_0^{1-\beta}\gamma^{\beta}$,

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \tfrac12 \sigma_k^2 \nabla \log
      \pi_{\beta_k}(x_k),\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} + \sigma_k^2\left[\tfrac12
      \nabla \log \pi_{\beta_{k+1}}(x_{k+1}) + v_{k+1}(x_{k+1})\right],\ \sigma_k^2\right)$$

    The control changes the weights and not the draws: a baseline between `AnnealedLangevin` and
    `CMCD`, which learns both.

    Args:
        rng_key: Randomness of the network's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge; the gap to the log evidence falls as it grows.
        diffusion: First value of $\sigma_k$.
        initial: Where the bridge starts; standard normal if not given.
        width: Units of each hidden layer.
        depth: Hidden layers.
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Doucet, Grathwohl, Matthews and Strathmann (2022), arXiv:2208.07698, whose score
    network is the annealed score plus the control here.
    """

    annealing: AnnealingSchedule
    control: ScoreInformedControl
    log_diffusion: Float[Array, "steps dim"]
    initial: AbstractInitialDistribution
    num_steps: int = eqx.field(static=True)
    score_bound: float = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 96,
        diffusion: float = 0.25,
        initial: AbstractInitialDistribution | None = None,
        width: int = 64,
        depth: int = 2,
        score_bound: float = 10.0,
    ):
        check_steps(num_steps, diffusion)
        self.annealing = AnnealingSchedule(num_steps)
        self.control = ScoreInformedControl(rng_key, dim, width, depth)
        self.log_diffusion = constant_diffusion(num_steps, dim, diffusion)
        self.initial = InitialNormal(dim) if initial is None else initial
        self.num_steps = num_steps
        self.score_bound = score_bound

    def start(self, target: Target) -> AbstractKernel:
        return self.initial.kernel(target)

    def controls(self, step: Int[Array, ""], point: Point) -> MCDControls:
        score = clipped_score(point.score, bound=self.score_bound)
        langevin = 0.5 * annealed_score(self.annealing()[step], self.initial, point, score)
        return MCDControls(langevin, self.control(step / self.num_steps, point.position, score))

    def forward(self, step: Int[Array, ""], state: State[MCDControls], target: Target) -> Gaussian:
        return euler(state.point, state.controls.langevin, self.log_diffusion[step], target)

    def backward(self, step: Int[Array, ""], state: State[MCDControls], target: Target) -> Gaussian:
        langevin, control = state.controls
        return euler(state.point, langevin + control, self.log_diffusion[step], target)
