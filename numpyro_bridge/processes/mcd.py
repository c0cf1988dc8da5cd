"""Monte Carlo diffusion: annealed Langevin dynamics against a learned way back."""

from jaxtyping import Array, Int

from numpyro_bridge.processes.base import State, euler
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.processes.langevin import AbstractControlledLangevin, LangevinControls
from numpyro_bridge.target import Target

_constructor = AbstractControlledLangevin.__init__


class MCD(AbstractControlledLangevin):
    r"""Annealed Langevin dynamics forward, and a learned drift backward.

    >>> sampler = nb.BridgeSampler(model, process=nb.MCD)

    With $\pi_\beta \propto p_0^{1-\beta}\gamma^{\beta}$,

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \tfrac12 \sigma_k^2 \nabla \log
      \pi_{\beta_k}(x_k),\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} + \sigma_k^2\left[\tfrac12
      \nabla \log \pi_{\beta_{k+1}}(x_{k+1}) + v_{k+1}(x_{k+1})\right],\ \sigma_k^2\right)$$

    The control changes the weights but not the draws. It is a baseline between `AnnealedLangevin`,
    which learns no control, and `CMCD`, whose control acts on both chains. Arguments and errors are
    those of `CMCD`.

    Reference: Doucet, Grathwohl, Matthews and Strathmann (2022), arXiv:2208.07698, whose score
    network is the annealed score plus the control here.
    """

    __init__ = _constructor  # type checkers would make one of the fields

    def forward(
        self, step: Int[Array, ""], state: State[LangevinControls], target: Target
    ) -> Gaussian:
        return euler(state.point, state.controls.langevin, self.diffusion(step), target)

    def backward(
        self, step: Int[Array, ""], state: State[LangevinControls], target: Target
    ) -> Gaussian:
        langevin, control = state.controls
        return euler(state.point, langevin + control, self.diffusion(step), target)
