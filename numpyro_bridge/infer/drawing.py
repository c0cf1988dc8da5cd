"""Draw many ends of trajectories in batches, from every chart its share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from numpyro_bridge._core.devices import divide, divided_among, gathered, num_shares
from numpyro_bridge._core.keys import fold_in, numbers_of_key, split
from numpyro_bridge._core.memory import memory_limit, most_within_memory
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import quick_jit
from numpyro_bridge._core.stages import stage, stages
from numpyro_bridge._core.together import check_same, interrupt_all
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.infer.kept_sites import KeptSites, kept_sites
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.trajectories.ends import End, draw_end, draw_end_on, draw_ends

BATCH = 1_000
"""Trajectories per call of the compiled code; those that are too many are dropped at the end."""

SMALL_BATCH = 125
"""With several charts batches are not smaller than this, unless memory demands it."""

BATCHES = (1, 5, 25, 50, 125, 250, 500, 1_000)
"""Sizes of batches: the largest for which there is memory, or, with several charts, a smaller one
if each chart's draws fit in it, so that few are lost."""

BYTES_PER_NUMBER = 10
"""Bytes of memory for each number of the states and of the sites: four for itself, as many for a
score, and some on the way."""


def drawn(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: SeenTarget,
    num_samples: int,
    mesh: Mesh | None,
    kept: KeptSites | None = None,
) -> tuple[tuple[End, dict[str, Array]], int]:
    """Draw ends of trajectories with the values of all sites.

    Where there are several charts, each makes its share of the draws, so that choosing the chart
    adds no noise; the draws come in random order.

    Args:
        rng_key: A JAX key.
        process: The two chains; of all charts, stacked, where there are several.
        target: The target on its charts.
        num_samples: How many ends.
        mesh: The devices that share each batch; None for one.
        kept: The sites whose values are wanted; all by default.

    Returns:
        The ends and the sites, and how many trajectories were run.
    """
    with stages(False):  # which is only for whoever interrupts it
        stage("drawing")
        kept = kept_sites(target.base) if kept is None else kept
        return _drawn(rng_key, process, target, num_samples, mesh, kept)


def check_same_draws(rng_key: RNGKey, num_samples: int, kept: KeptSites) -> None:
    """Raise a ValueError if processes that draw together do not draw the same."""
    check_same(
        {
            "rng_key": numbers_of_key(rng_key),
            "num_samples": num_samples,
            "exclude": kept.names,
            "memory limit": memory_limit(),
        }
    )


def _drawn(rng_key, process, target: SeenTarget, num_samples: int, mesh: Mesh | None, kept):
    sizes = _sizes_within_memory((process.num_steps + 1) * target.dim + kept.num_numbers)
    if isinstance(target, ChartedTarget) and num_samples >= target.num_charts:
        return _drawn_in_shares(rng_key, process, target, num_samples, mesh, kept, sizes)
    size = sizes[-1]
    keys = split(rng_key, -(-num_samples // size))
    draw = _compiled(process, _draw_batch, _draw_batch_quickly)
    batches = [_to_host(draw(key, process, target, kept, size, mesh)) for key in keys]
    return _joined(batches, np.arange(num_samples)), len(keys) * size


def _sizes_within_memory(numbers_each: int) -> list[int]:
    """The sizes of batches that fit in memory."""
    most = most_within_memory(BYTES_PER_NUMBER * numbers_each)
    return [size for size in BATCHES if size <= most] or [BATCHES[0]]


def _drawn_in_shares(rng_key, processes, target: ChartedTarget, num_samples, mesh, kept, sizes):
    order_key, draw_key = split(rng_key)
    counts = apportioned(np.exp(np.asarray(target.log_share, float)), num_samples)
    enough = (size for size in sizes if size >= max(SMALL_BATCH, np.max(counts)))
    size = next(enough, sizes[-1])
    draw = _compiled(processes, _draw_batch_on, _draw_batch_on_quickly)
    batches, num_paths = [], 0
    for chart in np.flatnonzero(counts):
        num_batches = -(-int(counts[chart]) // size)
        keys = split(fold_in(draw_key, chart), num_batches)
        mine = [
            _to_host(draw(key, processes, target, on_device(chart), kept, size, mesh))
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
    return jax.tree.map(on_device, joined)


def _to_host(batch: Any) -> Any:
    interrupt_all()
    return jax.tree.map(np.asarray, batch)


def _batch(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: SeenTarget,
    kept: KeptSites,
    num: int,
    mesh: Mesh | None,
):
    def draw(key):
        end = draw_end(key, process, target)
        return end, kept.values(target.base, end.position)

    return _on_mesh(draw, jax.random.split(rng_key, num), mesh)


def _batch_on(
    rng_key: RNGKey,
    processes: AbstractProcess[Any],
    target: ChartedTarget,
    chart: Int[Array, ""],
    kept: KeptSites,
    num: int,
    mesh: Mesh | None,
):
    def draw(key):
        end = draw_end_on(key, processes, target, chart)
        return end, kept.values(target.base, end.position)

    return _on_mesh(draw, jax.random.split(rng_key, num), mesh)


def _on_mesh(draw: Callable[..., Any], keys: Array, mesh: Mesh | None) -> Any:
    """Draw for every key; the last is repeated until the devices have equally many."""
    num = len(keys)
    if num % num_shares(mesh):
        keys = keys[np.minimum(np.arange(num + -num % num_shares(mesh)), num - 1)]
    with divided_among(mesh):
        return gathered(jax.tree.map(lambda x: x[:num], jax.vmap(draw)(divide(keys))))


_draw_batch, _draw_batch_quickly = eqx.filter_jit(_batch), quick_jit(_batch)
_draw_batch_on, _draw_batch_on_quickly = eqx.filter_jit(_batch_on), quick_jit(_batch_on)


def _compiled(
    process: AbstractProcess[Any], full: Callable[..., Any], quick: Callable[..., Any]
) -> Callable[..., Any]:
    """A process of no steps is over before full optimisation of its program would pay."""
    return full if process.num_steps else quick
