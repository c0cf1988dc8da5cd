"""Annealed Langevin dynamics: nothing is learned but the path and the size of its steps."""

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
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.clipped import clipped_score


class AnnealedLangevin(AbstractProcess[Vector]):
    r"""Unadjusted Langevin moves through a path of annealed densities (ULA), without a network.

    With $\pi_\beta \propto p_0^{1-\beta}\gamma^{\beta}$,

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \tfrac12 \sigma_k^2 \nabla \log
      \pi_{\beta_k}(x_k),\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} + \tfrac12 \sigma_k^2 \nabla
      \log \pi_{\beta_{k+1}}(x_{k+1}),\ \sigma_k^2\right)$$

    A baseline: what CMCD is before its control is trained. Schedule, step sizes and initial law
    can be, which compiles and trains fast and is often good enough in few dimensions.

    Args:
        rng_key: Not used; all samplers are made alike.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge; the gap to the log evidence falls as it grows.
        diffusion: First value of $\sigma_k$.
        initial: Where the bridge starts; standard normal if not given.
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Thin, Kotelevskii, Durmus, Panov, Moulines and Doucet (2021), arXiv:2106.15921
    (unadjusted Langevin annealing). Departs from it as CMCD does: each kernel is at the inverse
    temperature of the state that it starts from.
    """

    annealing: AnnealingSchedule
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
        score_bound: float = 10.0,
    ):
        check_steps(num_steps, diffusion)
        self.annealing = AnnealingSchedule(num_steps)
        self.log_diffusion = constant_diffusion(num_steps, dim, diffusion)
        self.initial = InitialNormal(dim) if initial is None else initial
        self.num_steps = num_steps
        self.score_bound = score_bound

    def start(self, target: Target) -> AbstractKernel:
        return self.initial.kernel(target)

    def controls(self, step: Int[Array, ""], point: Point) -> Vector:
        score = clipped_score(point.score, bound=self.score_bound)
        return 0.5 * annealed_score(self.annealing()[step], self.initial, point, score)

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return euler(state.point, state.controls, self.log_diffusion[step], target)

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return euler(state.point, state.controls, self.log_diffusion[step], target)
