"""Tempering: train on a flatter target first, and on the target itself in the end."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from numpyro_bridge._core.checks import check_count, check_positive
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.objectives.curricula.base import AbstractCurriculum
from numpyro_bridge.target import Point, Target, TargetWrapper


class Tempering(AbstractCurriculum[Scalar]):
    r"""Train on $\gamma^{1/T}$ with a temperature $T$ that falls to one.

    >>> curriculum = nb.Tempering(10.0, num_iterations=400)
    >>> sampler = nb.BridgeSampler(model, curriculum=curriculum, standardise=nb.standardise)

    A hot target is flat, and its modes are not yet apart: a bridge that covers them all while it
    is hot can keep them as it cools. Choose it for a single map, without charts, on a target that
    may have several modes. Weights, draws and evidence are always those of the target itself.

    Args:
        temperature: First temperature, at least 1; it falls geometrically, chunk by chunk.
        num_iterations: Iterations until the temperature is one; at most half of all iterations.

    Raises:
        ValueError: if `temperature` or `num_iterations` is below 1.

    Reference: the annealing of Sanokowski et al. (2025), arXiv:2506.10982.
    """

    temperature: float = eqx.field(static=True)
    warm_up: int = eqx.field(static=True)

    def __init__(self, temperature: float = 10.0, *, num_iterations: int = 400):
        temperature = check_positive("temperature", temperature)
        num_iterations = check_count("num_iterations", num_iterations, 1)
        if temperature < 1:
            raise ValueError(f"tempering starts at a temperature of at least 1, got {temperature}")
        self.temperature = temperature
        self.warm_up = num_iterations

    def start(self, rng_key: RNGKey, module: Any, data: Target) -> Scalar:
        return jnp.asarray(self.temperature, jnp.result_type(float))

    def advance(
        self,
        rng_key: RNGKey,
        iteration: Int[Array, ""],
        memory: Scalar,
        module: Any,
        data: Target,
    ) -> Scalar:
        remaining = 1 - jnp.minimum(iteration / self.warm_up, 1.0)
        return jnp.asarray(self.temperature, jnp.result_type(float)) ** remaining

    def shown(self, memory: Scalar, data: Target) -> "TemperedTarget":
        return TemperedTarget(data, memory)


class TemperedTarget(TargetWrapper):
    """A target's density to the power of an inverse temperature.

    Args:
        base: The target at temperature one.
        temperature: The temperature, positive.
    """

    base: Target
    temperature: Scalar

    def __init__(self, base: Target, temperature: Scalar):
        self.base = base
        self.temperature = temperature

    def at(self, position: Vector) -> Point:
        point = self.base.at(position)
        return point._replace(
            log_density=point.log_density / self.temperature, score=point.score / self.temperature
        )

    def log_density(self, position: Vector) -> Scalar:
        return self.base.log_density(position) / self.temperature
