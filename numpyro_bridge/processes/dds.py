"""Denoising diffusion sampler: an Ornstein-Uhlenbeck process, stepped exactly."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.base import AbstractDenoising, State, steered
from numpyro_bridge.processes.controls import AbstractControl, MakesControl, ScoreInformedControl
from numpyro_bridge.processes.diffusion import Diffusion, cosine_rates
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target


class DDS(AbstractDenoising):
    r"""Removes the noise that an Ornstein-Uhlenbeck process adds; the backward chain is fixed.

    With $a_k = 1 - e^{-\sigma_k^2}$, the part of the variance that step $k$ renews,

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(m + \sqrt{1 - a_k}\,(x_k - m) + a_k s^2 u_k(x_k),
      \ a_k s^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(m + \sqrt{1 - a_k}\,(x_{k+1} - m),
      \ a_k s^2\right)$$

    Both chains leave the initial distribution $\mathcal{N}(m, s^2)$ alone where there is no
    control, so the bridge is exact on that target at any number of steps.

    Choose it for comparisons: nothing is learned about the way back, so it needs more training
    than CMCD.

    Args:
        rng_key: Randomness of the control's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge.
        diffusion: First root mean square of $\sigma_k$ over the steps. The $\sigma_k$ fall like a
            squared cosine, so that steps are small near the target.
        control: Makes the control from `(rng_key, dim)`.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Vargas, Grathwohl and Doucet (2023), arXiv:2302.13834. Departs from it in learning
    mean and scale of the stationary distribution and the size of each step, coordinate by
    coordinate.
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
        self.diffusion = Diffusion(num_steps, dim, diffusion, cosine_rates(num_steps))
        self.control = control(rng_key, dim)
        self.initial = InitialNormal(dim)
        self.num_steps = num_steps

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return steered(self._relaxed(step, state.point, target), state.controls)

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return self._relaxed(step, state.point, target)

    def _relaxed(self, step: Int[Array, ""], point: Point, target: Target) -> Gaussian:
        """An exact step of the stationary process, the same in both directions."""
        stationary, time = self.initial, self.diffusion.variance(step)
        renewed = -jnp.expm1(-time)
        mean = stationary.mean + jnp.exp(-0.5 * time) * (point.position - stationary.mean)
        return Gaussian(mean, jnp.exp(stationary.log_scale) * jnp.sqrt(renewed), target)
