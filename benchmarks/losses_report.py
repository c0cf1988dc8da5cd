"""Table and plot of the study of losses."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import pages
from benchmarks import rows as r
from benchmarks.losses_rankings import PROBLEM, SCALES, rankings

LOSSES = ("reverse_kl", "reverse_kl_ld", "log_variance")
NOISE = ("learned", "fixed")
COLUMNS = [
    "sampler",
    "noise",
    "loss",
    "gap",
    "EUBO gap",
    "log Z, forward",
    "log Z, backward",
    "ESS",
    "ESS, backward",
    "k-hat",
    "Sinkhorn",
    "MMD",
    "coverage",
    "seconds",
]


def write_table(rows: list[dict], path: Path) -> None:
    """The paper's rankings, then a section for each problem, a line for each sampler and loss."""
    lines = [
        "# Losses over samplers",
        "",
        "`python -m benchmarks.losses --data FOLDER`, with `--targets`, `--processes`, `--keys` "
        "for more than the small preset; all numbers are in `losses.csv`.",
        pages.measured_on(rows),
        "",
        "Where targets are standardised, it is by an affine map, which in the rows measured so far "
        "covers all modes that its fit saw. The gap is log Z - ELBO and the "
        "EUBO gap EUBO - log Z, in nats, mean ± standard deviation over keys. The columns of log Z "
        "say how far the forward and the backward estimate of the log evidence are from it. All "
        "further columns are means over keys: ESS as the forward and as the backward runs see it, "
        "k-hat of the forward weights, Sinkhorn and MMD of unweighted draws (see "
        "`benchmarks/bridges.py` for cost, kernel and widths), entropic mode coverage, and seconds "
        "of training without compilation.",
        "",
        "## What the paper says, and what is seen here",
        "",
        *rankings(rows),
    ]
    for problem in _problems(rows):
        found = r.select(rows, **problem)
        scale = SCALES[problem["standardised"]]
        budget = "{num_steps} steps, {num_trajectories} trajectories, {num_iterations} iterations"
        lines += [
            "",
            f"## {problem['target']}, {scale}",
            "",
            budget.format(**problem) + f"; keys {', '.join(pages.distinct(found, 'key'))}.",
            "",
            *pages.table(COLUMNS, _cells_of_problem(found)),
        ]
    pages.write(path, lines)


def _cells_of_problem(rows: list[dict]) -> Iterator[list[str]]:
    choices = itertools.product(pages.distinct(rows, "process"), NOISE, LOSSES)
    for process, noise, loss in choices:
        found = r.select(rows, process=process, noise=noise, objective=loss)
        if found:
            yield [process, noise, loss, *_figures(found)]


def _figures(found: list[dict]) -> list[str]:
    cells = [r.over_keys(found, "gap"), r.over_keys(found, "eubo_gap")]
    digits = {
        "evidence_error": 3,
        "evidence_error_reverse": 3,
        "ess": 2,
        "ess_reverse": 2,
        "pareto_k": 2,
        "sinkhorn": 2,
        "mmd": 3,
        "coverage": 3,
        "seconds": 1,
    }
    for name, places in digits.items():
        value = np.mean(r.column(found, name))
        cells.append("" if np.isnan(value) else f"{value:.{places}f}")
    return cells


def _problems(rows: list[dict]) -> list[dict]:
    distinct = dict.fromkeys(tuple(row[name] for name in PROBLEM) for row in rows)
    return [dict(zip(PROBLEM, values, strict=True)) for values in distinct]


def write_plot(rows: list[dict], path: Path) -> None:
    """The gaps, logarithmic where they are far apart: a row of panels for each target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names, scales = pages.distinct(rows, "target"), pages.distinct(rows, "standardised")
    groups = list(itertools.product(pages.distinct(rows, "process"), NOISE))
    figure, axes = pyplot.subplots(
        len(names),
        len(scales),
        figsize=(max(3.0, 0.8 * len(groups)) * len(scales), 2.4 * len(names)),
        squeeze=False,
        layout="constrained",
    )
    for (i, name), (j, scale) in itertools.product(enumerate(names), enumerate(scales)):
        axis, found = axes[i, j], r.select(rows, target=name, standardised=scale)
        for place, loss in enumerate(LOSSES):
            for group, (process, noise) in enumerate(groups):
                gaps = r.column(
                    r.select(found, process=process, noise=noise, objective=loss), "gap"
                )
                at = np.full(len(gaps), group + 0.2 * (place - 1))
                label = loss if group == 0 else None
                axis.plot(at, np.clip(gaps, 1e-3, 1e4), ".", color=f"C{place}", label=label)
        axis.set(title=f"{name}, {SCALES[scale]}")
        low, high = axis.dataLim.intervaly
        if high > 5 * low > 0:  # a logarithmic axis has no legible numbers within one decade
            axis.set(yscale="log")
        axis.grid(axis="y", alpha=0.3)
        axis.set_xticks(range(len(groups)), [f"{p}\n{n}" for p, n in groups], fontsize=7)
    for row in axes:
        row[0].set_ylabel("log Z - ELBO [nats]")
    axes[0, 0].legend(fontsize=7)
    figure.savefig(path, dpi=90)
