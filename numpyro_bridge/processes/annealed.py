"""Annealed Langevin dynamics: the path, its start and its steps are learned, without a network."""

import equinox as eqx
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.base import AbstractBridge, State, euler
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target


class AnnealedLangevin(AbstractBridge[Vector]):
    r"""Unadjusted Langevin moves through a path of annealed densities (ULA), without a network.

    >>> sampler = nb.BridgeSampler(model, process=nb.AnnealedLangevin)

    With $\pi_\beta \propto p_0^{1-\beta}\gamma^{\beta}$,

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \tfrac12 \sigma_k^2 \nabla \log
      \pi_{\beta_k}(x_k),\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} + \tfrac12 \sigma_k^2 \nabla
      \log \pi_{\beta_{k+1}}(x_{k+1}),\ \sigma_k^2\right)$$

    Choose it as a baseline: `CMCD` is this sampler before its control is trained. The path, the
    size of its steps and the initial distribution are trained, which is fast and often good enough
    in few dimensions. Arguments and errors are those of `CMCD`, without a control.

    Reference: Thin, Kotelevskii, Durmus, Panov, Moulines and Doucet (2021), arXiv:2106.15921
    (unadjusted Langevin annealing). Departs from it as CMCD does: each kernel is at the inverse
    temperature of the state that it starts from.
    """

    annealing: AnnealingSchedule
    diffusion: Diffusion
    initial: AbstractInitialDistribution
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 96,
        diffusion: float = 0.25,
        initial: AbstractInitialDistribution | None = None,
    ):
        num_steps = check_constructor(rng_key, dim, num_steps, diffusion=diffusion)
        self.diffusion = Diffusion(num_steps, dim, diffusion)
        self.annealing = AnnealingSchedule(num_steps)
        self.initial = chosen_or_normal(initial, dim)
        self.num_steps = num_steps

    def controls(self, step: Int[Array, ""], point: Point) -> Vector:
        return 0.5 * self.annealing.score(step, self.initial, point)

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return euler(state.point, state.controls, self.diffusion(step), target)

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return euler(state.point, state.controls, self.diffusion(step), target)
