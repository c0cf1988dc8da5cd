"""The table that summarises draws: weighted moments and quantiles of every number."""

from collections.abc import Iterator
from itertools import islice, product
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float


class Table(NamedTuple):
    """Weighted moments and quantiles, one row for each element of a site."""

    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    num_left_out: int = 0


def table_of(
    sites: dict[str, Array],
    weight: Float[np.ndarray, " num_samples"],
    prob: float,
    most: int | None = None,
) -> Table:
    """Columns like those of NumPyro's `print_summary`.

    Args:
        sites: values of each site by name, shape (num_samples, ...).
        weight: normalised weights of the draws.
        prob: probability between the two outer quantiles.
        most: number of rows at most; None for all.
    """
    levels = (0.5, (1 - prob) / 2, (1 + prob) / 2)
    columns = ("mean", "std", "median", *(f"{100 * level:.1f}%" for level in levels[1:]))
    elements = islice(_elements(sites), most)
    rows = {label: _weighted_summary(values, weight, levels) for label, values in elements}
    total = sum(int(np.prod(value.shape[1:])) for value in sites.values())
    return Table(columns, rows, total - len(rows))


def table_lines(table: Table) -> Iterator[str]:
    """The table as text, one line for each row."""
    width = max([10, *map(len, table.rows)])
    yield f"{'':>{width}}" + "".join(f" {column:>9}" for column in table.columns)
    for label, numbers in table.rows.items():
        yield f"{label:>{width}}" + "".join(f" {number:>9.2f}" for number in numbers)


def _elements(sites: dict[str, Array]) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in sites.items():
        values = np.asarray(value)
        for index in product(*map(range, values.shape[1:])):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            yield label, values[(slice(None), *index)].astype(np.float64)


def _weighted_summary(
    values: np.ndarray, weight: np.ndarray, levels: tuple[float, ...]
) -> tuple[float, ...]:
    mean = weight @ values
    sd = np.sqrt(weight @ (values - mean) ** 2)
    order = np.argsort(values)
    # The distribution function at a draw counts half of that draw's own weight.
    middle = np.cumsum(weight[order]) - weight[order] / 2
    quantiles = np.interp(levels, middle, values[order])
    return tuple(float(number) for number in (mean, sd, *quantiles))
