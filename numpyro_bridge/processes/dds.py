"""Denoising diffusion sampler: an Ornstein-Uhlenbeck process, stepped exactly."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge.processes.diffusion import cosine_rates
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.processes.stationary import AbstractStationary
from numpyro_bridge.target import Point, Target

_constructor = AbstractStationary.__init__


class DDS(AbstractStationary):
    r"""Removes the noise that an Ornstein-Uhlenbeck process adds; the backward chain is fixed.

    >>> sampler = nb.BridgeSampler(model, process=partial(nb.DDS, num_steps=128))

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

    __init__ = _constructor  # type checkers would make one of the fields

    @staticmethod
    def rates(num_steps: int) -> Float[Array, " steps"]:
        return cosine_rates(num_steps)

    def noised(self, step: Int[Array, ""], point: Point, target: Target) -> Gaussian:
        """An exact step of the stationary process, the same in both directions."""
        stationary, time = self.initial, self.diffusion.variance(step)
        renewed = -jnp.expm1(-time)
        mean = stationary.mean + jnp.exp(-0.5 * time) * (point.position - stationary.mean)
        return Gaussian(mean, jnp.exp(stationary.log_scale) * jnp.sqrt(renewed), target)
