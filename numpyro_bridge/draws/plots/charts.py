"""The charts of a posterior: where they are, and how much of the mass is on each."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.checks import check_count, check_instance
from numpyro_bridge._core.weights import require_usable
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.plots.base import distinct_colours, panels

MAX_DRAWS = 1_500
"""Draws that are shown in the plane."""


def plot_charts(draws: Draws, coordinates: tuple[int, int] | None = None) -> Any:
    """Show corrected draws in two coordinates, coloured by chart, and the mass of every chart.

    >>> figure = nb.plots.plot_charts(draws)

    Args:
        draws: What `Posterior.sample` returned.
        coordinates: The two unconstrained coordinates to show; by default the two that tell the
            charts apart best.

    Returns:
        A Matplotlib figure.

    Raises:
        ValueError: if a coordinate is not there, or a weight is NaN or infinite.
    """
    check_instance("draws", draws, Draws, "posterior.sample(rng_key)")
    require_usable(draws.log_weight)
    position = np.asarray(draws.position)
    chart = np.asarray(draws.chart)
    if coordinates is None:
        first, second = _most_telling(position, chart)
    else:
        first, second = _checked(coordinates, position.shape[1])
    weight = np.exp(np.asarray(draws.log_weight, float) - float(np.max(draws.log_weight)))
    picked = np.random.default_rng(0).choice(len(weight), MAX_DRAWS, p=weight / weight.sum())
    figure, axes = panels(1, 2, width=4.2, height=3.4)
    plane, masses = axes.flat
    mass, error = draws.chart_masses
    colours = distinct_colours(len(mass))
    colour = colours[chart[picked]]
    plane.scatter(position[picked, first], position[picked, second], s=4, c=colour)
    names = _coordinate_names(draws)
    plane.set_xlabel(f"{names[first]}, unconstrained")
    plane.set_ylabel(f"{names[second]}, unconstrained")
    masses.bar(np.arange(len(mass)), mass, yerr=2 * error, color=colours)
    masses.xaxis.get_major_locator().set_params(integer=True)
    masses.set_xlabel("chart")
    masses.set_ylabel("mass, with two standard errors")
    figure.suptitle(f"{len(mass)} charts" if len(mass) > 1 else "one chart")
    return figure


def _coordinate_names(draws: Draws) -> list[str]:
    """The site and the index of each unconstrained coordinate, such as `"theta[3]"`."""
    dim = draws.position.shape[1]
    by_site = draws.target.by_site(jnp.arange(dim, dtype=draws.position.dtype))
    names = [""] * dim
    for path, places in jax.tree.leaves_with_path(by_site):
        site = jax.tree_util.keystr(path, simple=True, separator=".")
        for index, place in np.ndenumerate(np.asarray(places)):
            names[int(place)] = f"{site}[{','.join(map(str, index))}]" if index else site
    return names


def _checked(coordinates: Any, dim: int) -> list[int]:
    """Two coordinates as whole numbers of Python."""
    if np.shape(coordinates) != (2,) or isinstance(coordinates, Mapping | str):
        raise ValueError(f"coordinates must be two numbers, such as (0, 1), got {coordinates!r}")
    whole = [check_count("each of coordinates", number, 0) for number in coordinates]
    if max(whole) >= dim:
        raise ValueError(f"coordinates are between 0 and {dim - 1}, got {tuple(whole)}")
    return whole


def _most_telling(position: np.ndarray, chart: np.ndarray) -> tuple[int, int]:
    """The two coordinates whose means differ most between charts, beside their spread within."""
    dim = position.shape[1]
    if dim == 1:
        return 0, 0
    means = np.stack([position[chart == number].mean(axis=0) for number in np.unique(chart)])
    spread = position.std(axis=0) + 1e-12
    first, second = np.argsort(-np.std(means, axis=0) / spread, kind="stable")[:2]
    return min(int(first), int(second)), max(int(first), int(second))
