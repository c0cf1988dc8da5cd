"""Diffusion bridge sampler: each chain has a learned drift of its own."""

from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.base import AbstractBridge, State, euler
from numpyro_bridge.processes.controls import (
    AbstractControl,
    MakesControl,
    ScoreInformedControl,
    make_control,
)
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target


class DBSDrifts(NamedTuple):
    """The drifts of the two chains at a state."""

    forward: Vector
    backward: Vector


class DBS(AbstractBridge[DBSDrifts]):
    r"""Two controls, one for each chain, and no path of densities between the ends.

    >>> sampler = nb.BridgeSampler(model, process=partial(nb.DBS, num_steps=32))

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \sigma_k^2 u_k(x_k),\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} + \sigma_k^2 v_{k+1}(x_{k+1}),
      \ \sigma_k^2\right)$$

    More flexible than CMCD and slower to train: it has two networks, and before training both
    chains are plain Langevin dynamics of the target, so that its ELBO begins at that of the initial
    distribution. Choose it where the annealed path of CMCD is a poor one. Arguments and errors are
    those of `CMCD`; `control` is called once for each chain.

    Reference: Richter and Berner (2024), arXiv:2307.01198, in the form of Sanokowski et al. (2025),
    arXiv:2506.10982. Departs from both in starting each control at half the score of the target
    rather than near zero.
    """

    forward_control: AbstractControl
    backward_control: AbstractControl
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
        num_steps = check_constructor(rng_key, dim, num_steps, diffusion=diffusion)
        forward_key, backward_key = jax.random.split(rng_key)
        self.diffusion = Diffusion(num_steps, dim, diffusion)
        self.forward_control = make_control(control, forward_key, dim)
        self.backward_control = make_control(control, backward_key, dim)
        self.initial = chosen_or_normal(initial, dim)
        self.num_steps = num_steps

    def controls(self, step: Int[Array, ""], point: Point) -> DBSDrifts:
        seen = (step / self.num_steps, point.position, point.score)
        half = 0.5 * point.score
        return DBSDrifts(half + self.forward_control(*seen), half + self.backward_control(*seen))

    def forward(self, step: Int[Array, ""], state: State[DBSDrifts], target: Target) -> Gaussian:
        return euler(state.point, state.controls.forward, self.diffusion(step), target)

    def backward(self, step: Int[Array, ""], state: State[DBSDrifts], target: Target) -> Gaussian:
        return euler(state.point, state.controls.backward, self.diffusion(step), target)
