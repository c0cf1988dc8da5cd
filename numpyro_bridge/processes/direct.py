"""Draws of a chart as they are: a bridge of no steps."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.base import AbstractBridge, State
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.kernels import AbstractKernel
from numpyro_bridge.target import Point, Target


class Direct(AbstractBridge[Vector]):
    """Draws of a standard normal distribution in the chart's coordinates, weighted as they are.

    >>> nb.processes.Direct(key, dim=2).num_steps
    0
    >>> isinstance(posterior.process, nb.processes.Direct)  # this bridge was trained
    False

    This is a bridge of no steps, and importance sampling is another name for it. It is what
    `BridgeSampler` uses where the charts are so good that a bridge has nothing to add. There is
    nothing to train.

    Args:
        rng_key: Not used; all constructors have it.
        dim: Number of dimensions.
    """

    initial: AbstractInitialDistribution
    num_steps: int = eqx.field(static=True)

    def __init__(self, rng_key: RNGKey, dim: int):
        check_constructor(rng_key, dim)
        self.initial = InitialNormal(dim)
        self.num_steps = 0

    def controls(self, step: Int[Array, ""], point: Point) -> Vector:
        return jnp.zeros_like(point.position)

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> AbstractKernel:
        return self.start(target)  # There is no step, so that nobody asks for this.

    def backward(
        self, step: Int[Array, ""], state: State[Vector], target: Target
    ) -> AbstractKernel:
        return self.start(target)
