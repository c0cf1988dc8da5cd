"""Path integral sampler: from a single point, against a Brownian bridge."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.checks import check_positive
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.base import AbstractDenoising, State, euler
from numpyro_bridge.processes.controls import (
    AbstractControl,
    MakesControl,
    ScoreInformedControl,
    make_control,
)
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Target


class PIS(AbstractDenoising):
    r"""Brownian motion from one point, steered to the target; the backward chain is fixed.

    >>> sampler = nb.BridgeSampler(model, process=partial(nb.PIS, num_steps=128))

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \sigma_k^2 u_k(x_k),\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(m + \tfrac{v_k}{v_{k+1}} (x_{k+1} - m),
      \ \tfrac{v_k}{v_{k+1}} \sigma_k^2\right), \qquad v_k = s^2 + \sigma_0^2 + \dots +
      \sigma_{k-1}^2$$

    The point $m$ and the first step away from it, $\mathcal{N}(m, s^2)$, are one distribution here,
    the initial one. With no control the last state is $\mathcal{N}(m, v_K)$, so the bridge is exact
    on that target at any number of steps; $v_K$ is one at first.

    Choose it for comparisons: nothing is learned about the way back, so it needs more training
    than CMCD.

    Args:
        rng_key: Randomness of the control's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge.
        diffusion: First value of $\sigma_k$ and of $s$; `(num_steps + 1) ** -0.5` if not given.
        control: Makes the control from `(rng_key, dim)`.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Zhang and Chen (2022), arXiv:2111.15141. Departs from it in the exact weights of the
    discrete chains, and in letting the variances be learned, coordinate by coordinate.
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
        diffusion: float | None = None,
        control: MakesControl = ScoreInformedControl,
    ):
        num_steps = check_constructor(rng_key, dim, num_steps)
        if diffusion is None:
            diffusion = 1 / math.sqrt(num_steps + 1)
        diffusion = check_positive("diffusion", diffusion)
        self.diffusion = Diffusion(num_steps, dim, diffusion)
        self.control = make_control(control, rng_key, dim)
        self.initial = InitialNormal(dim, scale=diffusion)
        self.num_steps = num_steps

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return euler(state.point, state.controls, self.diffusion(step), target)

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        variance, mean = self._variance(), self.initial.mean
        kept = variance[step] / variance[step + 1]
        mean = mean + kept * (state.point.position - mean)
        return Gaussian(mean, jnp.sqrt(kept) * self.diffusion(step), target)

    def _variance(self) -> Float[Array, "states dim"]:
        """Variance of each state where there is no control."""
        steps = jnp.exp(2 * jnp.vstack([self.initial.log_scale, self.diffusion.log_noise]))
        return jnp.cumsum(steps, axis=0)
