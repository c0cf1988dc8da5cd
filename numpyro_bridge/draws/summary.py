"""The table that summarises draws: weighted moments and quantiles of every number."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from jaxtyping import Array, Float


def table_lines(
    sites: dict[str, Array], weight: Float[np.ndarray, " num_samples"], prob: float
) -> Iterator[str]:
    """One line for each element of a site, in columns like those of NumPyro's `print_summary`.

    Args:
        sites: values of each site by name, shape (num_samples, ...).
        weight: normalised weights of the draws.
        prob: probability between the two outer quantiles.
    """
    levels = (0.5, (1 - prob) / 2, (1 + prob) / 2)
    columns = ["mean", "std", "median", *(f"{100 * level:.1f}%" for level in levels[1:])]
    rows = {}
    for name, value in sites.items():
        value = np.asarray(value, np.float64)
        for index in product(*map(range, value.shape[1:])):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            rows[label] = _weighted_summary(value[(slice(None), *index)], weight, levels)
    width = max([10, *map(len, rows)])
    yield f"{'':>{width}}" + "".join(f" {column:>9}" for column in columns)
    for label, numbers in rows.items():
        yield f"{label:>{width}}" + "".join(f" {number:>9.2f}" for number in numbers)


def _weighted_summary(
    values: np.ndarray, weight: np.ndarray, levels: tuple[float, ...]
) -> list[float]:
    mean = weight @ values
    sd = np.sqrt(weight @ (values - mean) ** 2)
    order = np.argsort(values)
    # The distribution function at a draw counts half of that draw's own weight.
    middle = np.cumsum(weight[order]) - weight[order] / 2
    quantiles = np.interp(levels, middle, values[order])
    return [float(number) for number in (mean, sd, *quantiles)]
