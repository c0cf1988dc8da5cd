"""Which charts need training: those on which the untrained process has uneven weights."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import fold_in
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, gap_of
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.trajectories.ends import draw_end

NUM_PATHS = 500
"""Paths that an untrained process is judged by."""

SMALL_GAP = 0.05
"""An untrained process whose ELBO is about so close to the log evidence, in nats, is left alone."""

LARGEST_GAP = 20.0
"""A larger gap counts as so many nats: it says only that the map is poor."""


def is_felt(gap: float, share: float, num_charts: int) -> bool:
    """Whether the gap of one chart matters to all charts together.

    Args:
        gap: Between the ELBO and the log evidence of the chart's piece, in nats.
        share: The share of the mass on the chart.
        num_charts: How many charts there are.
    """
    return bool(gap > SMALL_GAP and share * min(gap, LARGEST_GAP) > SMALL_GAP / num_charts)


def needs_training(
    rng_key: RNGKey,
    processes: Sequence[AbstractProcess[Any]],
    pieces: Sequence[StandardisedTarget],
    share: Float[np.ndarray, " charts"],
) -> list[bool]:
    """Whether the process of each chart needs training; a single chart always does.

    Args:
        rng_key: Randomness of the paths.
        processes: An untrained process for each chart, all of one kind.
        pieces: The target on each chart.
        share: The share of the mass on each chart.
    """
    if len(pieces) == 1:
        return [True]
    gaps = [
        gap_of(np.asarray(_log_weights(fold_in(rng_key, number), process, piece)))
        for number, (process, piece) in enumerate(zip(processes, pieces, strict=True))
    ]
    needed = [is_felt(gap, part, len(gaps)) for gap, part in zip(gaps, share, strict=True)]
    # The charts together were not good enough, so that one of them has to improve.
    return needed if any(needed) else [True] * len(pieces)


@eqx.filter_jit
def _log_weights(rng_key: RNGKey, process: AbstractProcess[Any], piece: StandardisedTarget):
    keys = jax.random.split(rng_key, NUM_PATHS)
    return jax.vmap(draw_end, (0, None, None))(keys, process, piece).log_weight
