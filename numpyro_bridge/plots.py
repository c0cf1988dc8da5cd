"""Plots of draws, weights and training, in plain Matplotlib: one function, one figure.

Functions that compare take `{"bridge": ..., "NUTS": ...}`, ArviZ objects by the name to show in the
legend, and look the same under ArviZ 0.x and 1.x. A parameter is one number: an element of a site,
named `site[index]` by the coordinates of its dimensions. Where there are more parameters than fit,
the sites take turns, see `take_turns`, and the title says how many there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product, zip_longest
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from numpyro_bridge.calibration import Calibration, simultaneous_band
from numpyro_bridge.draws import GOOD_PARETO_K, MAX_PARETO_K
from numpyro_bridge.train import Metrics

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
"""Okabe and Ito's blue, orange, green and purple, told apart in every kind of colour vision."""

SMOOTHING = 25
"""Iterations in the moving average of a training curve."""

NEGLIGIBLE = 30.0
"""Nats below the largest weight at which a weight is as good as zero; shown no further away."""

Samples = Mapping[str, Any]


def scalar_draws(inference_data: Any) -> dict[str, np.ndarray]:
    """The posterior as one array of shape (chain, draw) for each parameter.

    Args:
        inference_data: an ArviZ `InferenceData`, or a `DataTree`.

    Returns:
        Draws by label, such as `"tau"` or `"theta[Choate]"`.
    """
    scalars = {}
    for name, variable in inference_data["posterior"].data_vars.items():
        values = variable.transpose("chain", "draw", ...)
        dims = values.dims[2:]
        numbers = np.asarray(values.values)
        sizes = zip(dims, numbers.shape[2:], strict=True)
        labels = [_coordinates(values, dim, size) for dim, size in sizes]
        for index in product(*(range(len(names)) for names in labels)):
            inside = ",".join(names[i] for names, i in zip(labels, index, strict=True))
            scalars[f"{name}[{inside}]" if index else str(name)] = numbers[(..., *index)]
    return scalars


def _coordinates(values: Any, dim: str, size: int) -> list[str]:
    return [str(label) for label in (values[dim].values if dim in values.coords else range(size))]


def site_of(label: str) -> str:
    """The site that a parameter is an element of: `"theta[3]"` is of `"theta"`."""
    return label.split("[", 1)[0]


def take_turns(labels: Iterable[str], maximum: int) -> list[str]:
    """Choose parameters so that every site is seen: the first of each, then the second, and so on.

    Args:
        labels: parameters, in the order to show them in.
        maximum: how many to keep.

    Returns:
        At most `maximum` of the labels, in the order in which they came.
    """
    labels = list(labels)
    sites: dict[str, list[str]] = {}
    for label in labels:
        sites.setdefault(site_of(label), []).append(label)
    turns = (label for turn in zip_longest(*sites.values()) for label in turn if label is not None)
    kept = {label for label, _ in zip(turns, range(maximum), strict=False)}
    return [label for label in labels if label in kept]


def plot_marginals(
    samples: Samples, parameters: Sequence[str] | None = None, max_parameters: int = 12
) -> Any:
    """Overlay histograms of each parameter, one panel each.

    Args:
        samples: ArviZ objects by name; the first is drawn as a line, the others are filled.
        parameters: labels to choose from, in the order to show them in; all by default.
        max_parameters: how many to show at most; the sites take turns.

    Returns:
        A Matplotlib figure.
    """
    draws, chosen, note = _chosen(samples, parameters, max_parameters)
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = _panels(rows, columns, width=2.6, height=2.0)
    for panel, label in zip(axes.flat, chosen, strict=False):
        _histograms(panel, [scalars[label].ravel() for scalars in draws.values()])
        panel.set_title(label, fontsize=10)
    for panel in axes.flat[len(chosen) :]:
        panel.set_axis_off()
    _finish(figure, "Marginal posteriors", note, draws)
    return figure


def plot_forest(
    samples: Samples, parameters: Sequence[str] | None = None, max_parameters: int = 40
) -> Any:
    """Show medians with 50 % (thick) and 90 % (thin) intervals, each site on an axis of its own.

    Args:
        samples: ArviZ objects by name.
        parameters: labels to choose from, in the order to show them in; all by default.
        max_parameters: how many to show at most; the sites take turns.

    Returns:
        A Matplotlib figure.
    """
    draws, chosen, note = _chosen(samples, parameters, max_parameters)
    sites = {site: [x for x in chosen if site_of(x) == site] for site in map(site_of, chosen)}
    heights = [len(labels) + 0.8 for labels in sites.values()]
    figure, axes = _panels(
        len(sites), 1, width=7.0, height=1.0, heights=heights, total_height=1 + 0.3 * sum(heights)
    )
    for panel, labels in zip(axes.flat, sites.values(), strict=True):
        _forest_panel(panel, labels, draws)
    _finish(figure, "Medians, 50 % and 90 % intervals", note, draws)
    return figure


def _forest_panel(panel: Any, labels: list[str], draws: dict[str, dict]) -> None:
    offsets = np.linspace(-0.16, 0.16, len(draws)) if len(draws) > 1 else [0.0]
    for scalars, colour, offset in zip(draws.values(), COLOURS, offsets, strict=False):
        places = np.arange(len(labels)) + offset
        quantiles = np.quantile(
            [scalars[label].ravel() for label in labels], [0.05, 0.25, 0.5, 0.75, 0.95], axis=1
        )
        panel.hlines(places, quantiles[0], quantiles[4], color=colour, linewidth=1.2)
        panel.hlines(places, quantiles[1], quantiles[3], color=colour, linewidth=3.5)
        panel.plot(quantiles[2], places, "o", color=colour, markersize=5, markeredgecolor="white")
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.3)
    panel.tick_params(axis="y", length=0)


def plot_pairs(
    samples: Samples, parameters: Sequence[str] | None = None, max_parameters: int = 4
) -> Any:
    """Scatter each parameter against each other, with their marginals on the diagonal.

    Args:
        samples: ArviZ objects by name; at most 1,000 draws of each are shown, evenly spaced.
        parameters: labels to choose from, in the order to show them in; all by default.
        max_parameters: how many to show at most; the sites take turns.

    Returns:
        A Matplotlib figure.
    """
    draws, chosen, note = _chosen(samples, parameters, max_parameters)
    size = len(chosen)
    figure, axes = _panels(size, size, width=2.1, height=1.9)
    for (row, column), panel in np.ndenumerate(axes):
        if column > row:
            panel.set_axis_off()
            continue
        across, up = chosen[column], chosen[row]
        if row == column:
            _histograms(panel, [scalars[across].ravel() for scalars in draws.values()])
        else:
            _scatter(panel, draws, across, up)
            if column == 0:
                panel.set_ylabel(up)
        if row == size - 1:
            panel.set_xlabel(across)
    axes[0, 0].set_ylabel(chosen[0])
    _finish(figure, "Pairs of parameters", note, draws)
    return figure


def _scatter(panel: Any, draws: dict[str, dict], across: str, up: str) -> None:
    # Points of both are drawn in turns, so that neither hides the other.
    clouds = []
    for scalars, colour in zip(draws.values(), COLOURS, strict=False):
        points = np.stack([scalars[across].ravel(), scalars[up].ravel()], axis=1)
        clouds.append((points[:: -(-len(points) // 1_000)], colour))
    for part in range(10):
        for points, colour in clouds[::-1]:
            x, y = points[part::10].T
            panel.plot(x, y, ".", color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
    panel.set_xlim(*_range([scalars[across].ravel() for scalars in draws.values()]))
    panel.set_ylim(*_range([scalars[up].ravel() for scalars in draws.values()]))


def plot_predictive(
    inference_data: Any, group: str = "posterior_predictive", max_draws: int = 50
) -> Any:
    """Show the observations among data that the model predicts, as distribution functions.

    A model that has seen the data (`"posterior_predictive"`) should predict data like them; one
    that has not (`"prior_predictive"`) should not exclude them.

    Args:
        inference_data: an ArviZ object from `to_inference_data`.
        group: which predictions.
        max_draws: predicted data sets to show, evenly spaced.

    Returns:
        A Matplotlib figure, with a panel for each observed site.

    Raises:
        ValueError: if there are no such predictions, or no observations.
    """
    missing = [name for name in (group, "observed_data") if not hasattr(inference_data, name)]
    if missing:
        raise ValueError(
            f"the ArviZ object has no {' and no '.join(missing)}: make it by "
            "nb.to_inference_data(draws) from draws of a model with observations"
        )
    observed, predicted = inference_data["observed_data"], inference_data[group]
    sites = [str(name) for name in observed.data_vars if name in predicted.data_vars]
    figure, axes = _panels(1, len(sites), width=4.5, height=3.2)
    for panel, site in zip(axes.flat, sites, strict=True):
        draws = np.asarray(predicted[site].values)
        draws = draws.reshape(draws.shape[0] * draws.shape[1], -1)
        for row in draws[:: -(-len(draws) // max_draws)]:
            panel.ecdf(row, color=COLOURS[0], alpha=0.2, linewidth=0.8)
        panel.ecdf(np.ravel(observed[site].values), color="black", linewidth=1.8)
        panel.set_xlim(*_range([draws.ravel(), np.ravel(observed[site].values)]))
        panel.set_title(site, fontsize=10)
    axes[0, 0].set_ylabel("share of the data below")
    figure.suptitle(f"{group.replace('_', ' ').capitalize()}, and the data (black)")
    return figure


def plot_ranks(calibration: Calibration, prob: float = 0.95) -> Any:
    """Show the ranks of a calibration as distribution functions, less that of uniform ranks.

    Calibrated ones stay in the band, all over with probability `prob` each. A line that rises and
    falls shows draws with a bias, an S draws of the wrong width.

    Args:
        calibration: from `AmortisedPosterior.calibrate`.
        prob: probability that a line of uniform ranks stays in the band everywhere.

    Returns:
        A Matplotlib figure, with a panel for each site and a line for each element.
    """
    places, low, high = simultaneous_band(
        calibration.num_simulations, calibration.num_draws, prob=prob
    )
    columns = min(4, len(calibration.ranks))
    rows = -(-len(calibration.ranks) // columns)
    figure, axes = _panels(rows, columns, width=2.8, height=2.2, sharex=True)
    for panel, (site, ranks) in zip(axes.flat, calibration.ranks.items(), strict=False):
        panel.fill_between(places, low - places, high - places, color="black", alpha=0.12, lw=0)
        for column in ranks.reshape(len(ranks), -1).T:
            counts = np.bincount(column, minlength=calibration.num_draws + 1)
            share = np.cumsum(counts)[:-1] / len(column)
            panel.plot(places, share - places, color=COLOURS[0], linewidth=1.2, alpha=0.7)
        panel.set_title(site, fontsize=10)
    for panel in axes.flat[len(calibration.ranks) :]:
        panel.set_axis_off()
    figure.supxlabel("rank, as a share", fontsize=10)
    figure.supylabel("share below, less uniform", fontsize=10)
    figure.suptitle(f"Ranks of {calibration.num_simulations} simulations")
    return figure


def plot_training(
    metrics: Metrics, log_evidence: float | None = None, log_evidence_error: float = 0.0
) -> Any:
    """Show the ELBO and the effective sample size of every training iteration.

    Args:
        metrics: of a `Posterior` or a `Training`.
        log_evidence: estimate that the ELBO should rise to, in nats; no line if None or NaN.
        log_evidence_error: its standard error, in nats.

    Returns:
        A Matplotlib figure.
    """
    figure, axes = _panels(2, 1, width=7.0, height=2.4, sharex=True)
    upper, lower = axes.flat
    _curve(upper, np.asarray(metrics.elbo))
    _curve(lower, np.asarray(metrics.ess))
    elbo = np.asarray(metrics.elbo)[np.isfinite(metrics.elbo)]
    # The first iterations lie so far below that nothing else could be seen.
    bottom, top = np.quantile(elbo, [0.05, 1.0]) if elbo.size else (0.0, 1.0)
    if log_evidence is not None and np.isfinite(log_evidence):
        upper.axhline(log_evidence, color="black", linewidth=1.2, label="log evidence")
        upper.axhspan(
            log_evidence - log_evidence_error,
            log_evidence + log_evidence_error,
            color="black",
            alpha=0.15,
            linewidth=0,
        )
        top = max(top, log_evidence)
    margin = 0.08 * max(top - bottom, 1e-3)
    upper.set_ylim(bottom - margin, top + margin)
    upper.set_ylabel("ELBO [nats]")
    upper.legend(loc="lower right", framealpha=0.9, edgecolor="none", fontsize=9)
    lower.set_ylim(0, 1.02)
    lower.set_ylabel("effective sample size\n[share of a batch]")
    lower.set_xlabel("training iteration")
    figure.suptitle("Training")
    return figure


def _curve(panel: Any, values: np.ndarray) -> None:
    iterations = np.arange(1, len(values) + 1)
    window = min(SMOOTHING, len(values))
    panel.plot(iterations, values, color=COLOURS[0], alpha=0.25, linewidth=0.8, label="iteration")
    panel.plot(
        iterations[window - 1 :],
        np.convolve(values, np.ones(window) / window, mode="valid"),
        color=COLOURS[0],
        linewidth=1.8,
        label=f"mean of {window}",
    )
    panel.grid(alpha=0.3)


def plot_weights(log_weight: ArrayLike, pareto_k: float, ess: float) -> Any:
    """Show how the log weights spread: narrow about zero for a good sampler, no long right tail.

    Args:
        log_weight: log target minus log proposal, in nats, shape (num,).
        pareto_k: their tail index, for the title.
        ess: the share of the draws that count, for the title.

    Returns:
        A Matplotlib figure.
    """
    values = np.asarray(log_weight, np.float64)
    largest = np.max(values)
    relative = values - largest - np.log(np.mean(np.exp(values - largest)))
    figure, axes = _panels(1, 1, width=7.0, height=3.4)
    (panel,) = axes.flat
    # On a logarithmic scale a single draw can be seen, and what is far to the right matters.
    high = np.max(relative)
    low = max(np.min(relative), high - NEGLIGIBLE)
    bins = np.linspace(low, max(high, low + 1e-3), 60)
    panel.hist(np.maximum(relative, low), bins=bins, color=COLOURS[0], alpha=0.8)
    panel.set_yscale("log")
    panel.grid(alpha=0.3)
    panel.set_axisbelow(True)
    panel.axvline(0.0, color="black", linewidth=1.2)
    panel.set_xlabel("log weight, minus the log of the mean weight [nats]")
    panel.set_ylabel("draws")
    figure.suptitle(
        f"Weights of {len(values)} draws: Pareto k-hat {pareto_k:.2f} ({_judgement(pareto_k)}), "
        f"ESS {100 * ess:.0f} %"
    )
    return figure


def _judgement(pareto_k: float) -> str:
    if pareto_k <= GOOD_PARETO_K:
        return f"good: below {GOOD_PARETO_K}"
    if pareto_k <= MAX_PARETO_K:
        return f"fair: above {GOOD_PARETO_K}"
    return f"not to be trusted: above {MAX_PARETO_K}"


def _histograms(panel: Any, draws: list[np.ndarray]) -> None:
    """The first as a line, on top; the others filled; all over the same bins."""
    bins = np.linspace(*_range(draws), 36)
    for place, values in reversed(list(enumerate(draws))):
        style = (
            {"histtype": "step", "linewidth": 1.6}
            if place == 0
            else {"histtype": "stepfilled", "alpha": 0.5}
        )
        panel.hist(values, bins=bins, density=True, color=COLOURS[place % len(COLOURS)], **style)
    panel.set_xlim(bins[0], bins[-1])
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def _range(draws: list[np.ndarray]) -> tuple[float, float]:
    """Where all but one draw in two hundred lie, of each sampler: tails would squeeze the rest."""
    low = min(np.quantile(values, 0.0025) for values in draws)
    high = max(np.quantile(values, 0.9975) for values in draws)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _chosen(
    samples: Samples, parameters: Sequence[str] | None, max_parameters: int
) -> tuple[dict[str, dict[str, np.ndarray]], list[str], str]:
    """Scalar draws of each sampler, the parameters to show, and a note if some are left out."""
    draws = {name: scalar_draws(inference_data) for name, inference_data in samples.items()}
    if not draws:
        raise ValueError('samples should hold ArviZ objects by name, as in {"bridge": idata}.')
    first, *others = draws.values()
    shared = [label for label in first if all(label in other for other in others)]
    labels = shared if parameters is None else list(parameters)
    unknown = [label for label in labels if label not in shared]
    if unknown or not labels:
        raise ValueError(f"parameters should be among {shared}, but these are not: {unknown}.")
    chosen = take_turns(labels, max_parameters)
    note = f"{len(chosen)} of {len(labels)} parameters" if len(chosen) < len(labels) else ""
    return draws, chosen, note


def _panels(
    rows: int,
    columns: int,
    *,
    width: float,
    height: float,
    sharex: bool = False,
    heights: list[float] | None = None,
    total_height: float | None = None,
) -> tuple[Any, np.ndarray]:
    """A figure of panels, sizes in inches each, and its axes as an array (rows, columns)."""
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


def _finish(figure: Any, title: str, note: str, draws: dict[str, dict]) -> None:
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
