"""Time-reversed diffusion sampler: a variance-preserving diffusion by Euler-Maruyama steps."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import linear_rates
from numpyro_bridge.processes.base import AbstractProcess, State, check_steps
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.clipped import clipped_score


class DIS(AbstractProcess[Vector]):
    r"""A noising diffusion, run backward by a learned score; the noising chain is fixed.

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k - \tfrac12 \sigma_k^2 (x_k - m) + \sigma_k^2
      s^2 u_k(x_k),\ \sigma_k^2 s^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} - \tfrac12 \sigma_k^2
      (x_{k+1} - m),\ \sigma_k^2 s^2\right)$$

    The control is what the score of the noised target has beyond that of the initial law
    $\mathcal{N}(m, s^2)$, so no control is right for that target, to first order in the steps.

    Choose it for comparisons: nothing is learned about the way back, so it needs more training
    than CMCD.

    Args:
        rng_key: Randomness of the network's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge.
        diffusion: First root mean square of $\sigma_k$ over the steps; $\sigma_k^2$ falls linearly
            to a hundredth.
        width: Units of each hidden layer.
        depth: Hidden layers.
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Berner, Richter and Ullrich (2024), arXiv:2211.01364. Departs from it in the exact
    weights of the discrete chains instead of the divergence formula of continuous time, and in
    learning the stationary law and the size of each step, coordinate by coordinate.
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
        rates = linear_rates(num_steps)
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
        """One Euler-Maruyama step of the noising process, the same in both directions."""
        law, diffusion = self.initial, jnp.exp(self.log_diffusion[step])
        mean = point.position - 0.5 * diffusion**2 * (point.position - law.mean)
        return Gaussian(mean, diffusion * jnp.exp(law.log_scale), target)
