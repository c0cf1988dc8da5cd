"""Where a trajectory ends, in the model's own coordinates, with the weight of its whole path."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import REPLACED_LOG_DENSITY
from numpyro_bridge.trajectories.simulate import simulate, simulate_backward
from numpyro_bridge.trajectories.trajectory import Trajectory

BATCH = 100
"""Paths that are run at once where each has a process of its own."""


class End(NamedTuple):
    """The last state of a trajectory and the weight of its whole path: all that is kept of it."""

    position: Float[Array, "*batch dim"]
    """The last state, in the unconstrained coordinates of the model."""
    log_density: Float[Array, "*batch"]
    """Log density of the model at that position, in nats."""
    log_weight: Float[Array, "*batch"]
    """Log weight of the whole path, in nats; where there are several charts, that of the chart and
    the path."""
    finite: Bool[Array, "*batch"]
    """Whether every density that was needed was finite, and every score, so that none was replaced.
    A path of no steps needs no score."""
    chart: Int[Array, "*batch"]
    """The number of the chart; zero where there is only one."""


def end_of(run: Trajectory, target: StandardisedTarget) -> End:
    """The end of one trajectory."""
    densities = run.states.log_density
    # A path of no steps has no use for its score, which need not be computed for it.
    finite = run.states.finite if len(densities) > 1 else densities > REPLACED_LOG_DENSITY
    last = jax.tree.map(lambda leaf: leaf[-1], run.states)
    return End(
        target.map(last.position),
        last.log_density - target.map.log_det(last.position),
        run.log_weight,
        jnp.all(finite),
        jnp.asarray(0),
    )


# Compiled once, even if NumPyro calls a guide outside compiled code.
@eqx.filter_jit
def draw_end(rng_key: RNGKey, process: AbstractProcess[Any], target: SeenTarget) -> End:
    """Run the forward chain once; where there are several charts, on one drawn by its share.

    Args:
        rng_key: Randomness of the chart and the path.
        process: The two chains; for several charts one for each of them, stacked.
        target: The target.
    """
    if isinstance(target, StandardisedTarget):
        return end_of(simulate(rng_key, process, target), target)
    chart_key, path_key = jax.random.split(rng_key)
    return draw_end_on(
        path_key, process, target, jax.random.categorical(chart_key, target.log_share)
    )


def draw_ends(rng_keys: Any, process: AbstractProcess[Any], target: SeenTarget) -> End:
    """Run the forward chain once for every key, for independent draws inside compiled code.

    Where there are several charts, every path has a process of its own, that of its chart. Batches
    bound the memory that these take.
    """
    run = jax.vmap(draw_end, in_axes=(0, None, None))
    if isinstance(target, StandardisedTarget):
        return run(rng_keys, process, target)
    num = len(rng_keys)
    size = max(1, min(num, BATCH))
    rows = jnp.arange(-(-num // size) * size) % max(1, num)
    batches = rng_keys[rows].reshape(-1, size, *rng_keys.shape[1:])
    ends = jax.lax.map(lambda keys: run(keys, process, target), batches)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num], ends)


@eqx.filter_jit
def draw_end_on(
    rng_key: RNGKey, processes: AbstractProcess[Any], target: ChartedTarget, chart: Int[Array, ""]
) -> End:
    """Run the forward chain of one chart once; the weight counts the choice of the chart."""
    piece = target.chart(chart)
    end = end_of(simulate(rng_key, row(processes, chart), piece), piece)
    return _on_the_whole(end, target, chart)


@eqx.filter_jit
def draw_path_to(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: SeenTarget,
    position: Float[Array, " dim"],
) -> End:
    """Run the backward chain once from a position of the model, for another path to that end.

    Where there are several charts, the path is on one drawn by its responsibility.
    """
    if isinstance(target, StandardisedTarget):
        inside = target.map.inverse(position)
        return end_of(simulate_backward(rng_key, process, target, inside), target)
    chart_key, path_key = jax.random.split(rng_key)
    chart = target.draw_chart(chart_key, position)
    piece = target.chart(chart)
    inside = piece.map.inverse(position)
    run = simulate_backward(path_key, row(process, chart), piece, inside)
    return _on_the_whole(end_of(run, piece), target, chart)


def _on_the_whole(end: End, target: ChartedTarget, chart: Int[Array, ""]) -> End:
    """The end of a path on one chart, with the density of the whole target."""
    share = target.partition.log_responsibilities(end.position)[chart]
    return end._replace(
        log_density=end.log_density - share,
        log_weight=end.log_weight - target.log_share[chart],
        chart=chart,
    )
