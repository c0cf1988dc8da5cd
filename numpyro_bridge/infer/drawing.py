"""Draw many ends of trajectories in batches, from every chart its share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from numpyro_bridge._core.devices import Devices, divide, divided_among
from numpyro_bridge._core.interrupts import raise_interrupt
from numpyro_bridge._core.quick_jit import quick_jit
from numpyro_bridge._core.stages import stage, stages
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.trajectories.ends import End, draw_end, draw_end_on, draw_ends

BATCH = 1_000
"""Trajectories per call of the compiled code; those that are too many are dropped at the end."""

BATCHES = (125, 250, 500, 1_000)
"""Sizes of batches where there are several charts, so that few draws of a light chart are lost."""

SMALL_BATCHES = (25, 50, 125, 250, 500, 1_000)
"""Sizes of batches where paths are long and have many dimensions."""

MOST_NUMBERS = 50_000_000
"""Numbers that the states of a batch may have: 200 MB of positions, and as much of scores."""


def drawn(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: SeenTarget,
    num_samples: int,
    devices: Devices,
) -> tuple[tuple[End, dict[str, Array]], int]:
    """Draw ends of trajectories with the values of all sites.

    Where there are several charts, each makes its share of the draws, so that choosing the chart
    adds no noise; the draws come in random order.

    Returns:
        The ends and the sites, and how many trajectories were run.
    """
    with stages(False):  # which is only for whoever interrupts it
        stage("drawing")
        return _drawn(rng_key, process, target, num_samples, devices)


def _drawn(rng_key, process, target: SeenTarget, num_samples: int, devices: Devices):
    if isinstance(target, ChartedTarget) and num_samples >= target.num_charts:
        return _drawn_in_shares(rng_key, process, target, num_samples, devices)
    size = _size_within_memory((process.num_steps + 1) * target.dim, len(devices))
    keys = jax.random.split(rng_key, -(-num_samples // size))
    draw = _compiled(process, _draw_batch, _draw_batch_quickly)
    batches = [_to_host(draw(key, process, target, size, devices)) for key in keys]
    return _joined(batches, np.arange(num_samples)), len(keys) * size


def _size_within_memory(numbers_each: int, num_devices: int) -> int:
    """The largest batch whose states fit in memory, of those that the devices divide."""
    divisible = [size for size in SMALL_BATCHES if size % max(1, num_devices) == 0]
    fitting = [size for size in divisible if size * numbers_each <= MOST_NUMBERS]
    return max(fitting, default=divisible[0])


def _drawn_in_shares(rng_key, processes, target: ChartedTarget, num_samples: int, devices):
    order_key, draw_key = jax.random.split(rng_key)
    counts = apportioned(np.exp(np.asarray(target.log_share, float)), num_samples)
    divisible = [size for size in BATCHES if size % max(1, len(devices)) == 0]
    size = next((size for size in divisible if size >= np.max(counts)), BATCH)
    draw = _compiled(processes, _draw_batch_on, _draw_batch_on_quickly)
    batches, num_paths = [], 0
    for chart in np.flatnonzero(counts):
        num_batches = -(-int(counts[chart]) // size)
        keys = jax.random.split(jax.random.fold_in(draw_key, chart), num_batches)
        mine = [
            _to_host(draw(key, processes, target, jnp.asarray(chart), size, devices))
            for key in keys
        ]
        end, sites = jax.tree.map(
            lambda *parts: np.concatenate(parts)[: counts[chart]],  # noqa: B023
            *mine,
        )
        # The weight counts the share that the chart really has among these draws.
        correction = float(target.log_share[chart]) - np.log(counts[chart] / num_samples)
        log_weight = end.log_weight + np.asarray(correction, end.log_weight.dtype)
        batches.append((end._replace(log_weight=log_weight), sites))
        num_paths += num_batches * size
    order = np.asarray(jax.random.permutation(order_key, num_samples))
    return _joined(batches, order), num_paths


@eqx.filter_jit
def draw_sites(
    rng_key: RNGKey, process: AbstractProcess[Any], target: SeenTarget, num: int
) -> dict[str, Array]:
    """Independent draws of all sites, without weights, also inside compiled code."""
    ends = draw_ends(jax.random.split(rng_key, num), process, target)
    return jax.vmap(target.base.constrain)(ends.position)


def apportioned(share: np.ndarray, num: int) -> Int[np.ndarray, " charts"]:
    """Whole numbers in proportion to shares, at least one for each share above zero.

    Args:
        share: Shares that add up to one; zero for what gets nothing.
        num: The sum of the numbers, at least the number of shares above zero.
    """
    present = share > 0
    counts = np.where(present, np.maximum(1, np.floor(share * num)), 0).astype(int)
    while counts.sum() > num:
        counts[np.argmax(counts)] -= 1
    behind = np.where(present, share * num - counts, -np.inf)
    counts[np.argsort(-behind, kind="stable")[: num - counts.sum()]] += 1
    return counts


def _joined(batches: list[Any], order: np.ndarray) -> Any:
    joined = jax.tree.map(lambda *parts: np.concatenate(parts)[order], *batches)
    return jax.tree.map(jnp.asarray, joined)


def _to_host(batch: Any) -> Any:
    raise_interrupt()
    return jax.tree.map(np.asarray, batch)


def _batch(
    rng_key: RNGKey, process: AbstractProcess[Any], target: SeenTarget, num: int, devices: Devices
):
    def draw(key):
        end = draw_end(key, process, target)
        return end, target.base.constrain(end.position)

    with divided_among(devices):
        return jax.vmap(draw)(divide(jax.random.split(rng_key, num)))


def _batch_on(
    rng_key: RNGKey,
    processes: AbstractProcess[Any],
    target: ChartedTarget,
    chart: Int[Array, ""],
    num: int,
    devices: Devices,
):
    def draw(key):
        end = draw_end_on(key, processes, target, chart)
        return end, target.base.constrain(end.position)

    with divided_among(devices):
        return jax.vmap(draw)(divide(jax.random.split(rng_key, num)))


_draw_batch, _draw_batch_quickly = eqx.filter_jit(_batch), quick_jit(_batch)
_draw_batch_on, _draw_batch_on_quickly = eqx.filter_jit(_batch_on), quick_jit(_batch_on)


def _compiled(
    process: AbstractProcess[Any], full: Callable[..., Any], quick: Callable[..., Any]
) -> Callable[..., Any]:
    """A process of no steps is over before full optimisation of its program would pay."""
    return full if process.num_steps else quick
