"""Time-reversed diffusion sampler: a variance-preserving diffusion by Euler-Maruyama steps."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge.processes.diffusion import linear_rates
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.processes.stationary import AbstractStationary
from numpyro_bridge.target import Point, Target

_constructor = AbstractStationary.__init__


class DIS(AbstractStationary):
    r"""A noising diffusion, run backward by a learned score; the noising chain is fixed.

    >>> sampler = nb.BridgeSampler(model, process=partial(nb.DIS, num_steps=128))

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

    __init__ = _constructor  # type checkers would make one of the fields

    @staticmethod
    def rates(num_steps: int) -> Float[Array, " steps"]:
        return linear_rates(num_steps)

    def noised(self, step: Int[Array, ""], point: Point, target: Target) -> Gaussian:
        stationary, diffusion = self.initial, self.diffusion(step)
        mean = point.position - 0.5 * diffusion**2 * (point.position - stationary.mean)
        return Gaussian(mean, diffusion * jnp.exp(stationary.log_scale), target)
