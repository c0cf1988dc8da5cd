"""Controlled Monte Carlo diffusion: annealed Langevin dynamics with a learned correction."""

from jaxtyping import Array, Int

from numpyro_bridge.processes.base import State, euler
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.processes.langevin import AbstractControlledLangevin, LangevinControls
from numpyro_bridge.target import Target

_constructor = AbstractControlledLangevin.__init__


class CMCD(AbstractControlledLangevin):
    r"""Langevin dynamics along a path of annealed densities, corrected by one control.

    >>> sampler = nb.BridgeSampler(model, process=partial(nb.CMCD, num_steps=32))

    With $\pi_\beta \propto p_0^{1-\beta}\gamma^{\beta}$ and diffusion coefficients $\sigma_k$,

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \sigma_k^2\left[\tfrac12 \nabla \log
      \pi_{\beta_k}(x_k) + u_k(x_k)\right],\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} + \sigma_k^2\left[\tfrac12
      \nabla \log \pi_{\beta_{k+1}}(x_{k+1}) - u_{k+1}(x_{k+1})\right],\ \sigma_k^2\right)$$

    The default where a bridge is trained. Before training it is annealed importance sampling with
    unadjusted Langevin moves, which is already good where the initial distribution is close to the
    target; training closes the remaining gap. Each step costs one evaluation of the score and one
    of the control, shared by the two kernels that start from the same state.

    Args:
        rng_key: Randomness of the control's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge; the gap to the log evidence falls as it grows.
        diffusion: First value of every $\sigma_k$, in units of the standardised coordinates.
        initial: Where the bridge starts; standard normal if not given.
        control: Makes the control from `(rng_key, dim)`.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Vargas et al. (2024), arXiv:2307.01050, in the form of Sanokowski et al. (2025),
    arXiv:2506.10982: kernel variances $\sigma_k^2$ without a factor two, and each kernel at the
    inverse temperature of the state that it starts from. Departs from the latter in using one
    $\sigma_k$ for both kernels between two states.
    """

    __init__ = _constructor  # type checkers would make one of the fields

    def forward(
        self, step: Int[Array, ""], state: State[LangevinControls], target: Target
    ) -> Gaussian:
        langevin, control = state.controls
        return euler(state.point, langevin + control, self.diffusion(step), target)

    def backward(
        self, step: Int[Array, ""], state: State[LangevinControls], target: Target
    ) -> Gaussian:
        langevin, control = state.controls
        return euler(state.point, langevin - control, self.diffusion(step), target)
