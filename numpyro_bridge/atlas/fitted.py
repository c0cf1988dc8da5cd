"""Charts that were fitted, and what their draws say about them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.judge import Judgement, judge
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.target import Target

FINE_ESS, FAIR_ESS = 0.9, 0.8
"""Good charts whose draws are worth these shares of independent ones are not fitted any closer by
affine maps, and not bent. A single chart that was bent is bent no further from the first share on.
"""


class Fitted(NamedTuple):
    """Charts, and what their draws say about them."""

    normals: DenseMap
    """The affine map of each chart, stacked."""
    maps: list[AbstractMap]
    """The map of each chart, bent or not."""
    seen: Judgement
    num_gradient_evaluations: int
    """What fitting and judging cost, with what was tried and not kept."""
    left_to_moves: bool = False
    """Whether annealed moves mend the weights, so that nothing need be bent or divided."""


def better(before: Fitted, after: Fitted) -> Fitted:
    """The better one of two fits, with the cost of both."""
    best = after if after.seen.better_than(before.seen) else before
    return best._replace(num_gradient_evaluations=after.num_gradient_evaluations)


def judged(
    rng_key: RNGKey,
    target: Target,
    normals: DenseMap,
    maps: Sequence[AbstractMap],
    log_mass: Float[np.ndarray, " charts"],
    spent: int,
) -> Fitted:
    """Judge the draws of charts.

    Args:
        rng_key: The same key gives the same draws.
        target: The whole target, in its own coordinates.
        normals: The affine map of each chart, stacked.
        maps: The map of each chart, bent or not.
        log_mass: A first guess of the mass of each chart, in nats up to a constant.
        spent: The gradients that the charts took so far.
    """
    seen = judge(rng_key, target, maps, log_mass)
    return Fitted(normals, list(maps), seen, spent + len(seen.log_weight))


def rows_of(normals: DenseMap) -> list[AbstractMap]:
    """The maps that are stacked."""
    return [row(normals, chart) for chart in range(len(normals.location))]
