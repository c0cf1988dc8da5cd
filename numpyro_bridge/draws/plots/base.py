"""Parts that all plots share: panels, colours, legends, and the choice of parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_count, check_mapping, check_names
from numpyro_bridge.draws.plots.parameters import scalar_draws, take_turns

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
"""Blue, orange, green and purple of Okabe and Ito, which the colour-blind can tell apart too."""

Samples = Mapping[str, Any]


def distinct_colours(num: int) -> np.ndarray:
    """One colour for each of so many things: those of the other plots, as far as they go round."""
    import matplotlib

    if num <= len(COLOURS):
        return np.asarray(COLOURS[:num])
    return matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, num))


def histograms(panel: Any, draws: list[np.ndarray], *, parts: bool = False) -> None:
    """Draw histograms over the same bins: the first as a line on top, the others filled.

    Args:
        panel: Where to draw.
        draws: The values of each histogram.
        parts: Whether they are parts of one whole, so that each has an area like its share.
    """
    bins = np.linspace(*bulk_range(draws), 36)
    for place, values in reversed(list(enumerate(draws))):
        style = (
            {"histtype": "step", "linewidth": 1.6}
            if place == 0
            else {"histtype": "stepfilled", "alpha": 0.5}
        )
        num = sum(map(len, draws)) if parts else len(values)
        weights = np.full(len(values), 1 / num)
        panel.hist(values, bins=bins, weights=weights, color=COLOURS[place % len(COLOURS)], **style)
    panel.set_xlim(bins[0], bins[-1])
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def bulk_range(draws: list[np.ndarray]) -> tuple[float, float]:
    """A range that holds all but one draw in 200 of every sampler, since tails squeeze the rest."""
    low = min(np.quantile(values, 0.0025) for values in draws)
    high = max(np.quantile(values, 0.9975) for values in draws)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def chosen_draws(
    samples: Samples, parameters: Sequence[str] | None, max_parameters: int
) -> tuple[dict[str, dict[str, np.ndarray]], list[str], str]:
    """Draws of each sampler by parameter, the parameters to show, and a note if there are more."""
    if hasattr(samples, "posterior"):  # ArviZ objects are mappings, of groups by name
        raise TypeError('samples should hold ArviZ objects by name, as in {"bridge": idata}.')
    check_mapping("samples", samples, '{"bridge": idata}')
    max_parameters = check_count("max_parameters", max_parameters, 1)
    draws = {name: _scalars(name, inference_data) for name, inference_data in samples.items()}
    if not draws:
        raise ValueError('samples should hold ArviZ objects by name, as in {"bridge": idata}.')
    first, *others = draws.values()
    shared = [label for label in first if all(label in other for other in others)]
    labels = (
        shared if parameters is None else check_names("parameters", parameters, str(shared[:2]))
    )
    unknown = [label for label in labels if label not in shared]
    if unknown or not labels:
        raise ValueError(f"parameters should be among {shared}, but these are not: {unknown}.")
    chosen = take_turns(labels, max_parameters)
    note = f"{len(chosen)} of {len(labels)} parameters" if len(chosen) < len(labels) else ""
    return draws, chosen, note


def _scalars(name: str, inference_data: Any) -> dict[str, np.ndarray]:
    try:
        return scalar_draws(inference_data)
    except ValueError as error:
        raise ValueError(f"samples[{name!r}]: {error}") from None


def panels(
    rows: int,
    columns: int,
    *,
    width: float,
    height: float,
    sharex: bool = False,
    heights: list[float] | None = None,
    total_height: float | None = None,
) -> tuple[Any, np.ndarray]:
    """A figure and its panels, an array of shape (rows, columns); sizes are inches per panel."""
    figure, axes = _pyplot().subplots(
        rows,
        columns,
        figsize=(width * columns + 0.4, total_height or height * rows + 0.7),
        height_ratios=heights,
        sharex=sharex,
        squeeze=False,
        layout="constrained",
    )
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, axes


def finish(figure: Any, title: str, note: str, draws: dict[str, dict[str, np.ndarray]]) -> None:
    """Add the title and the legend to a figure."""
    from matplotlib.patches import Patch

    figure.suptitle(f"{title} ({note})" if note else title)
    handles = [
        Patch(color=colour, label=name) for name, colour in zip(draws, COLOURS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "plots need Matplotlib, which could not be imported: pip install matplotlib"
        ) from error
    return pyplot
