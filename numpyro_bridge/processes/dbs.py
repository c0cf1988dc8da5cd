"""Diffusion bridge sampler: each chain has a learned drift of its own."""

from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.base import (
    AbstractProcess,
    State,
    check_steps,
    constant_diffusion,
    euler,
)
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.clipped import clipped_score


class DBSControls(NamedTuple):
    """The drifts of the two chains at a state."""

    forward: Vector
    backward: Vector


class DBS(AbstractProcess[DBSControls]):
    r"""Two controls, one a chain, and no path of densities between the ends.

    $$\vec{p}(x_{k+1} \mid x_k) = \mathcal{N}\left(x_k + \sigma_k^2 u_k(x_k),\ \sigma_k^2\right)$$
    $$\overleftarrow{p}(x_k \mid x_{k+1}) = \mathcal{N}\left(x_{k+1} + \sigma_k^2 v_{k+1}(x_{k+1}),
      \ \sigma_k^2\right)$$

    More flexible than CMCD and slower to train: two networks, and untrained both chains are
    plain Langevin dynamics of the target, whose ELBO is that of the initial law. Choose it where
    the annealed path of CMCD is a poor one.

    Args:
        rng_key: Randomness of the networks' first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge; the gap to the log evidence falls as it grows.
        diffusion: First value of $\sigma_k$, the same for every coordinate and step, in units of
            the standardised coordinates; learned from there.
        initial: Where the bridge starts; standard normal if not given.
        width: Units of each hidden layer.
        depth: Hidden layers.
        score_bound: Root-mean-square entry beyond which scores are shortened, in both chains alike.

    Raises:
        ValueError: if `num_steps` is below 1 or `diffusion` is not positive.

    Reference: Richter and Berner (2024), arXiv:2307.01198, in the form of Sanokowski et al. (2025),
    arXiv:2506.10982. Departs from both in starting each control at half the score of the target
    rather than near zero.
    """

    forward_control: ScoreInformedControl
    backward_control: ScoreInformedControl
    log_diffusion: Float[Array, "steps dim"]
    initial: AbstractInitialDistribution
    num_steps: int = eqx.field(static=True)
    score_bound: float = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 96,
        diffusion: float = 0.25,
        initial: AbstractInitialDistribution | None = None,
        width: int = 64,
        depth: int = 2,
        score_bound: float = 10.0,
    ):
        check_steps(num_steps, diffusion)
        forward_key, backward_key = jax.random.split(rng_key)
        self.forward_control = ScoreInformedControl(forward_key, dim, width, depth)
        self.backward_control = ScoreInformedControl(backward_key, dim, width, depth)
        self.log_diffusion = constant_diffusion(num_steps, dim, diffusion)
        self.initial = InitialNormal(dim) if initial is None else initial
        self.num_steps = num_steps
        self.score_bound = score_bound

    def start(self, target: Target) -> AbstractKernel:
        return self.initial.kernel(target)

    def controls(self, step: Int[Array, ""], point: Point) -> DBSControls:
        score = clipped_score(point.score, bound=self.score_bound)
        time = step / self.num_steps
        return DBSControls(
            0.5 * score + self.forward_control(time, point.position, score),
            0.5 * score + self.backward_control(time, point.position, score),
        )

    def forward(self, step: Int[Array, ""], state: State[DBSControls], target: Target) -> Gaussian:
        return euler(state.point, state.controls.forward, self.log_diffusion[step], target)

    def backward(self, step: Int[Array, ""], state: State[DBSControls], target: Target) -> Gaussian:
        return euler(state.point, state.controls.backward, self.log_diffusion[step], target)
