"""Draws that lie where the numbers of a computer are too coarse, or end.

A site with bounds is computed from an unconstrained number, and rounded. Near 2,455,000 neighbours
in 32 bits are a quarter apart, and between -1e6 and 1e6 an eighth, whatever the value is. A
narrower posterior has a few values to choose from, or one. And a rate whose prior is
gamma(0.01, 0.01) is below the smallest number of 32 bits with a probability of two in five. Weights
show neither, since every density is computed from the same rounded values.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

ENOUGH, MOST = 100, 1_000
"""Draws that are needed to count their values, and that are looked at."""

FEW_VALUES = 30
"""Values at most, among these draws, that show rounding: a normal distribution has as many if its
standard deviation is five times the distance of neighbours."""

NEAR_THE_END = 1e3
"""A value below the smallest number times this lies at the end of the numbers."""

SHARE_AT_END = 0.003
"""Weight at the end of the numbers from which something may be missing beyond."""

FEWEST_AT_END = 5
"""Equal values at one end that are no coincidence."""


def doubts_about_numbers(
    sites: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    weight: Float[np.ndarray, " draws"],
    chart: Int[np.ndarray, " draws"],
) -> Iterator[str]:
    """Say which latent sites are rounded so coarsely, or so near the end, that it matters.

    Args:
        sites: Constrained values by name, the draws along the first axis.
        shapes: The unconstrained shape of each latent site.
        weight: Normalised weights of the draws.
        chart: The number of each draw's chart.
    """
    coarse, ended, bits = [], {}, 32
    for name, shape in shapes.items():
        if name not in sites:  # it was excluded
            continue
        values = np.asarray(sites[name])
        if not np.issubdtype(values.dtype, np.floating) or values.size == 0:
            continue
        bits = values.dtype.itemsize * 8
        # Elements of a simplex or of a matrix depend on each other, and some never vary.
        by_itself = values.shape[1:] == shape
        columns = values.reshape(len(values), -1)
        if by_itself and np.any(_are_coarse(columns, chart)):
            coarse.append(name)
            continue
        share = _share_at_ends(columns, weight, by_itself)
        if share > SHARE_AT_END:
            ended[name] = share
    wider = "call numpyro.enable_x64() at the start, or " if bits < 64 else ""
    if coarse:
        yield (
            f"In {bits} bits, {', '.join(coarse)} can take a few values only where the posterior "
            f"is: rounding decides what is drawn. Then the evidence is wrong as well: {wider}shift "
            "and scale the site, such that its values are small and its posterior is not narrow."
        )
    for name, share in ended.items():
        yield (
            f"{share:.1%} of the posterior of {name} lies where numbers of {bits} bits end. What "
            f"lies beyond is missing, in the evidence as well: {wider}give the model another site, "
            "such as the logarithm of this one, whose posterior does not end there."
        )


def _are_coarse(
    columns: Float[np.ndarray, "draws elements"], chart: Int[np.ndarray, " draws"]
) -> Bool[np.ndarray, " elements"]:
    """Whether all draws, or those of a chart, have a few different values, for each element."""
    found = np.zeros(columns.shape[1], bool)
    for some in (columns, *(columns[chart == number] for number in np.unique(chart))):
        if len(some) >= ENOUGH:
            in_order = np.sort(some[:MOST], axis=0)
            different = np.count_nonzero(np.diff(in_order, axis=0), axis=0) + 1
            found |= different <= FEW_VALUES
    return found


def _share_at_ends(
    columns: Float[np.ndarray, "draws elements"], weight: Float[np.ndarray, " draws"], by_itself
) -> float:
    """The largest weight, of all elements, of draws at the end of the numbers."""
    tiny = NEAR_THE_END * np.finfo(columns.dtype).tiny
    at_zero = (np.abs(columns) < tiny) & np.any(columns != 0, axis=0)
    ends = [at_zero]
    if by_itself:
        ends += [columns == np.max(columns, axis=0), columns == np.min(columns, axis=0)]
    return max(
        float(np.max(weight @ end, where=np.sum(end, axis=0) >= FEWEST_AT_END, initial=0.0))
        for end in ends
    )
