"""Denoising diffusion sampler: an Ornstein-Uhlenbeck process, stepped exactly."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import cosine_rates
from numpyro_bridge.processes.base import AbstractProcess, State, check_steps
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.clipped import clipped_score


class DDS(AbstractProcess[Vector]):
    r"""Noise is removed that an Ornstein-Uhlenbeck process adds; the backward chain is fixed.

    With $a_k = 1 - e^{-\sigma_k^2}$, the part of the variance that step $k$ renews,

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(m + \sqrt{1 - a_k}\,(x_k - m) + a_k s^2 u_k(x_k),
      \ a_k s^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(m + \sqrt{1 - a_k}\,(x_{k+1} - m),
      \ a_k s^2\right)$$

    Both chains leave the initial law $\mathcal{N}(m, s^2)$ alone where there is no control, so the
    bridge is exact on that target at any number of steps.

    Choose it for comparisons: nothing is learned about the way back, so it needs more training
    than CMCD.

    Args:
        rng_key: Randomness of the network's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge.
        diffusion: First root mean square of $\sigma_k$ over the steps; they fall like a squared
            cosine, towards small steps at the target.
        width: Units of each hidden layer.
        depth: Hidden layers.
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Vargas, Grathwohl and Doucet (2023), arXiv:2302.13834. Departs from it in learning
    mean and scale of the stationary law and the size of each step, coordinate by coordinate.
    """

    control: ScoreInformedControl
    log_diffusion: Float[Array, "steps dim"]
    initial: InitialNormal
    num_steps: int = eqx.field(static=True)
    score_bound: float = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 96,
        diffusion: float = 0.25,
        width: int = 64,
        depth: int = 2,
        score_bound: float = 10.0,
    ):
        check_steps(num_steps, diffusion)
        self.control = ScoreInformedControl(rng_key, dim, width, depth)
        rates = cosine_rates(num_steps)
        self.log_diffusion = jnp.tile(jnp.log(diffusion) + 0.5 * jnp.log(rates)[:, None], (1, dim))
        self.initial = InitialNormal(dim)
        self.num_steps = num_steps
        self.score_bound = score_bound

    def start(self, target: Target) -> Gaussian:
        return self.initial.kernel(target)

    def controls(self, step: Int[Array, ""], point: Point) -> Vector:
        score = clipped_score(point.score, bound=self.score_bound)
        return self.control(step / self.num_steps, point.position, score)

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        relaxed = self._relaxed(step, state.point, target)
        return eqx.tree_at(
            lambda kernel: kernel.mean, relaxed, relaxed.mean + relaxed.scale**2 * state.controls
        )

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return self._relaxed(step, state.point, target)

    def _relaxed(self, step: Int[Array, ""], point: Point, target: Target) -> Gaussian:
        """An exact step of the stationary process, the same in both directions."""
        law, time = self.initial, jnp.exp(2 * self.log_diffusion[step])
        renewed = -jnp.expm1(-time)
        mean = law.mean + jnp.exp(-0.5 * time) * (point.position - law.mean)
        return Gaussian(mean, jnp.exp(law.log_scale) * jnp.sqrt(renewed), target)
