"""Annealing: the path of densities between the initial distribution and the target."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.checks import MOST_STEPS, check_count
from numpyro_bridge._core.types import Vector
from numpyro_bridge.processes.initial import AbstractInitialDistribution
from numpyro_bridge.processes.parts import AbstractPart
from numpyro_bridge.target import Point


class AnnealingSchedule(AbstractPart):
    r"""Inverse temperatures $\beta_k$ that rise from 0 to 1, linearly at the start of training.

    >>> nb.processes.AnnealingSchedule(num_steps=4)().tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]

    They stand for the geometric path $\pi_\beta \propto p_0^{1-\beta} \gamma^{\beta}$ from the
    initial distribution $p_0$ to the target $\gamma$. The increments are normalised softpluses of
    free parameters, one for each step.
    """

    increments: Float[Array, " steps"]

    def __init__(self, num_steps: int):
        """Make a schedule of `num_steps` equal increments."""
        num_steps = check_count("num_steps", num_steps, 1, MOST_STEPS)
        self.increments = jnp.ones(num_steps, jnp.result_type(float))

    def __call__(self) -> Float[Array, " states"]:
        """The inverse temperature of each of the `num_steps + 1` states."""
        parts = jax.nn.softplus(self.increments)
        return jnp.concatenate([jnp.zeros_like(parts[:1]), jnp.cumsum(parts) / jnp.sum(parts)])

    def score(
        self, step: Int[Array, ""], initial: AbstractInitialDistribution, point: Point
    ) -> Vector:
        """The gradient of the log density of the path at one of its states."""
        temperature = self()[step]
        return (1 - temperature) * initial.score(point) + temperature * point.score
