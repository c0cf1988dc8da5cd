"""Time-reversed diffusion sampler: a variance-preserving diffusion by Euler-Maruyama steps."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.base import AbstractDenoising, State, steered
from numpyro_bridge.processes.controls import AbstractControl, MakesControl, ScoreInformedControl
from numpyro_bridge.processes.diffusion import Diffusion, linear_rates
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target


class DIS(AbstractDenoising):
    r"""A noising diffusion, run backward by a learned score; the noising chain is fixed.

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k - \tfrac12 \sigma_k^2 (x_k - m) + \sigma_k^2
      s^2 u_k(x_k),\ \sigma_k^2 s^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} - \tfrac12 \sigma_k^2
      (x_{k+1} - m),\ \sigma_k^2 s^2\right)$$

    The control learns the difference between the score of the noised target and that of the initial
    distribution $\mathcal{N}(m, s^2)$. Where this distribution is the target, no control is needed,
    to first order in the steps.

    Choose it for comparisons: nothing is learned about the way back, so it needs more training
    than CMCD. Arguments and errors are those of `DDS`, except that here `diffusion` is the first
    root mean square of $\sigma_k$ whose squares fall linearly to a hundredth.

    Reference: Berner, Richter and Ullrich (2024), arXiv:2211.01364. Departs from it in the exact
    weights of the discrete chains instead of the divergence formula of continuous time, and in
    learning the stationary distribution and the size of each step, coordinate by coordinate.
    """

    control: AbstractControl
    diffusion: Diffusion
    initial: InitialNormal
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 96,
        diffusion: float = 0.25,
        control: MakesControl = ScoreInformedControl,
    ):
        self.diffusion = Diffusion(num_steps, dim, diffusion, linear_rates(num_steps))
        self.control = control(rng_key, dim)
        self.initial = InitialNormal(dim)
        self.num_steps = num_steps

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return steered(self._relaxed(step, state.point, target), state.controls)

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return self._relaxed(step, state.point, target)

    def _relaxed(self, step: Int[Array, ""], point: Point, target: Target) -> Gaussian:
        """One Euler-Maruyama step of the noising process, the same in both directions."""
        stationary, diffusion = self.initial, self.diffusion(step)
        mean = point.position - 0.5 * diffusion**2 * (point.position - stationary.mean)
        return Gaussian(mean, diffusion * jnp.exp(stationary.log_scale), target)
