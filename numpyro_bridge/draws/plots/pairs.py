"""Scatter plots of every pair of parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_flag
from numpyro_bridge.draws.plots.base import (
    COLOURS,
    Samples,
    bulk_range,
    chosen_draws,
    finish,
    histograms,
    panels,
)


def plot_pairs(
    samples: Samples,
    parameters: Sequence[str] | None = None,
    max_parameters: int = 4,
    *,
    by_chart: bool = False,
) -> Any:
    """Scatter every pair of parameters, with the marginals on the diagonal.

    >>> figure = nb.plots.plot_pairs({"bridge": idata}, ["w[0]", "w[1]"])

    Args:
        samples: ArviZ objects by name; at most 1,000 draws of each are shown, evenly spaced.
        parameters: labels to choose from, in the order to show them in; all by default.
        max_parameters: how many to show at most; the sites take turns.
        by_chart: colour the draws of a single ArviZ object by their chart; beyond four charts the
            lighter ones share a colour.

    Returns:
        A Matplotlib figure.

    Raises:
        ValueError: if a parameter is not there, or `by_chart` is asked of draws without charts or
            of more than one object.
    """
    by_chart = check_flag("by_chart", by_chart)
    draws, chosen, note = chosen_draws(samples, parameters, max_parameters)
    if by_chart:
        draws = _by_chart(samples, draws)
    size = len(chosen)
    figure, axes = panels(size, size, width=2.1, height=1.9)
    for (row, column), panel in np.ndenumerate(axes):
        if column > row:
            panel.set_axis_off()
            continue
        across, up = chosen[column], chosen[row]
        if row == column:
            along = [scalars[across].ravel() for scalars in draws.values()]
            histograms(panel, along, parts=by_chart)
        else:
            _scatter(panel, draws, across, up)
            if column == 0:
                panel.set_ylabel(up)
        if row == size - 1:
            panel.set_xlabel(across)
    axes[0, 0].set_ylabel(chosen[0])
    finish(figure, "Pairs of parameters", note, draws)
    return figure


def _by_chart(
    samples: Samples, draws: dict[str, dict[str, np.ndarray]]
) -> dict[str, dict[str, np.ndarray]]:
    """The draws of each chart by its name, those of the heaviest first."""
    if len(samples) != 1:
        raise ValueError(f"by_chart needs a single ArviZ object, but there are {len(samples)}.")
    ((name, inference_data),) = samples.items()
    try:
        chart = np.asarray(inference_data["sample_stats"]["chart"]).ravel()
    except KeyError as error:
        raise ValueError(
            f"by_chart: the sample_stats of {name!r} have no `chart`: pass what "
            "nb.to_inference_data made of draws on several charts."
        ) from error
    numbers, counts = np.unique(chart, return_counts=True)
    order = [int(number) for number in numbers[np.argsort(-counts, kind="stable")]]
    most = len(order) if len(order) <= len(COLOURS) else len(COLOURS) - 1
    groups = {f"chart {number}": chart == number for number in order[:most]}
    if most < len(order):
        groups[f"{len(order) - most} lighter charts"] = np.isin(chart, order[most:])
    scalars = draws[name]
    return {
        group: {label: values.ravel()[mine] for label, values in scalars.items()}
        for group, mine in groups.items()
    }


def _scatter(panel: Any, draws: dict[str, dict[str, np.ndarray]], across: str, up: str) -> None:
    # The samplers take turns in drawing their points, so that none hides another.
    clouds = []
    for scalars, colour in zip(draws.values(), COLOURS, strict=False):
        points = np.stack([scalars[across].ravel(), scalars[up].ravel()], axis=1)
        clouds.append((points[:: -(-len(points) // 1_000)], colour))
    for part in range(10):
        for points, colour in clouds[::-1]:
            x, y = points[part::10].T
            panel.plot(x, y, ".", color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
    panel.set_xlim(*bulk_range([scalars[across].ravel() for scalars in draws.values()]))
    panel.set_ylim(*bulk_range([scalars[up].ravel() for scalars in draws.values()]))
