"""Which charts need training: those on which the untrained process has uneven weights."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from numpyro_bridge._core.keys import fold_in
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, gap_of
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.trajectories.ends import draw_end

NUM_PATHS = 500
"""Paths that an untrained process is judged by."""

SMALL_GAP = 0.05
"""An untrained process whose ELBO is about so close to the log evidence, in nats, is left alone."""


def needs_training(
    rng_key: RNGKey, processes: Sequence[AbstractProcess[Any]], pieces: Sequence[StandardisedTarget]
) -> list[bool]:
    """Whether the process of each chart needs training; a single chart always does.

    Args:
        rng_key: Randomness of the paths.
        processes: An untrained process for each chart, all of one kind.
        pieces: The target on each chart.
    """
    if len(pieces) == 1:
        return [True]
    gaps = [
        gap_of(np.asarray(_log_weights(fold_in(rng_key, number), process, piece)))
        for number, (process, piece) in enumerate(zip(processes, pieces, strict=True))
    ]
    needed = [gap > SMALL_GAP for gap in gaps]
    # The charts together were not good enough, so that one of them has to improve.
    return needed if any(needed) else [True] * len(pieces)


@eqx.filter_jit
def _log_weights(rng_key: RNGKey, process: AbstractProcess[Any], piece: StandardisedTarget):
    keys = jax.random.split(rng_key, NUM_PATHS)
    return jax.vmap(draw_end, (0, None, None))(keys, process, piece).log_weight
