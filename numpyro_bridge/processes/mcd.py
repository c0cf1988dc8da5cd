"""Monte Carlo diffusion: annealed Langevin dynamics against a learned way back."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.base import AbstractBridge, State, euler
from numpyro_bridge.processes.controls import AbstractControl, MakesControl, ScoreInformedControl
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target


class MCDDrifts(NamedTuple):
    """The drifts of the two chains at a state."""

    forward: Vector
    backward: Vector


class MCD(AbstractBridge[MCDDrifts]):
    r"""Annealed Langevin dynamics forward, and a learned drift backward.

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

    annealing: AnnealingSchedule
    control: AbstractControl
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
        control: MakesControl = ScoreInformedControl,
    ):
        self.diffusion = Diffusion(num_steps, dim, diffusion)
        self.annealing = AnnealingSchedule(num_steps)
        self.control = control(rng_key, dim)
        self.initial = chosen_or_normal(initial, dim)
        self.num_steps = num_steps

    def controls(self, step: Int[Array, ""], point: Point) -> MCDDrifts:
        langevin = 0.5 * self.annealing.score(step, self.initial, point)
        control = self.control(step / self.num_steps, point.position, point.score)
        return MCDDrifts(langevin, langevin + control)

    def forward(self, step: Int[Array, ""], state: State[MCDDrifts], target: Target) -> Gaussian:
        return euler(state.point, state.controls.forward, self.diffusion(step), target)

    def backward(self, step: Int[Array, ""], state: State[MCDDrifts], target: Target) -> Gaussian:
        return euler(state.point, state.controls.backward, self.diffusion(step), target)
