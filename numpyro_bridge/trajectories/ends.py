"""Where a trajectory ends, in the model's own coordinates, with the weight of its whole path."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.trajectories.simulate import simulate, simulate_backward
from numpyro_bridge.trajectories.trajectory import Trajectory


class End(NamedTuple):
    """The last state of a trajectory and the weight of its whole path: all that is kept of it."""

    position: Float[Array, "*batch dim"]
    """The last state, in the unconstrained coordinates of the model."""
    log_density: Float[Array, "*batch"]
    """Log density of the model at that position, in nats."""
    log_weight: Float[Array, "*batch"]
    """Log weight of the whole path, in nats."""
    finite: Bool[Array, "*batch"]
    """Whether every density and score on the path was finite, so that none was replaced."""


def end_of(run: Trajectory, target: StandardisedTarget) -> End:
    """The end of one trajectory."""
    last = jax.tree.map(lambda leaf: leaf[-1], run.states)
    return End(
        target.map(last.position),
        last.log_density - target.map.log_det(last.position),
        run.log_weight,
        jnp.all(run.states.finite),
    )


# Compiled once, even if NumPyro calls a guide outside compiled code.
@eqx.filter_jit
def draw_end(rng_key: RNGKey, process: AbstractProcess, target: StandardisedTarget) -> End:
    """Run the forward chain once."""
    return end_of(simulate(rng_key, process, target), target)


@eqx.filter_jit
def draw_path_to(
    rng_key: RNGKey,
    process: AbstractProcess,
    target: StandardisedTarget,
    position: Float[Array, " dim"],
) -> End:
    """Run the backward chain once from a position of the model, for another path to that end."""
    inside = target.map.inverse(position)
    return end_of(simulate_backward(rng_key, process, target, inside), target)
