"""Weightings of noise levels, monotone and not, as teachers of posteriors from draws.

    python -m benchmarks.weightings --data FOLDER

Kingma and Gao (2023) ask which weighting makes the best images, and find that monotone ones, whose
losses are mixtures of lower bounds, lose nothing. Here the question is asked of posteriors: the
same draws, network and budget, and each weighting judged by the bounds, the weights and the draws
that it gives. Three quarters of the reference draws are learned from, and the rest is compared
with. Rows that are in `weightings.csv` already are kept; `weightings.md` and `weightings.png` show
all of them.
"""

import itertools
from functools import partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import numpyro_bridge as nb
from benchmarks import bridges, command_line, pages, problems, rows
from numpyro_bridge.diffusion import weightings as w

HERE = Path(__file__).parent
RESULTS, TABLE, PLOT = (HERE / f"weightings.{suffix}" for suffix in ("csv", "md", "png"))

WEIGHTINGS = {
    "uniform": w.uniform,
    "flow": w.flow,
    "sigmoid": w.sigmoid,
    "monotone edm": w.Monotone(w.edm),
    "monotone p2": w.Monotone(w.p2),
    "cosine": w.cosine,
    "edm": w.edm,
    "logit-normal": w.logit_normal,
    "p2": w.p2,
    "min-SNR": w.min_snr,
}
SETTINGS = (("seeds", True), ("seeds", False), ("funnel", False), ("gmm40_2d", False))
KEYS = (0, 1)
BUDGET = {
    "denoiser": partial(nb.diffusion.untrained_denoiser, width=96, depth=2),
    "num_iterations": 1_500,
    "num_draws": 256,
    "progress_bar": False,
}
FIGURES = (
    ("gap", "log Z - ELBO", 3),
    ("eubo_gap", "EUBO - log Z", 3),
    ("evidence_error", "log evidence - log Z", 3),
    ("ess", "ESS", 2),
    ("pareto_k", "k-hat", 2),
    ("sinkhorn", "Sinkhorn", 3),
    ("mmd", "MMD", 3),
    ("coverage", "coverage", 3),
)


class Table(eqx.Module):
    """A weighting as numbers to interpolate between, so that all share compiled code."""

    log_values: Float[Array, " levels"]

    @classmethod
    def of(cls, weighting: w.Weighting) -> "Table":
        """The values of a weighting at the levels of `GRID`."""
        return cls(jnp.log(jax.vmap(weighting)(jnp.asarray(w.GRID, jnp.result_type(float)))))

    def __call__(self, log_snr):
        """The weight at a level."""
        return jnp.exp(jnp.interp(log_snr, jnp.asarray(w.GRID), self.log_values))


class Case(NamedTuple):
    """One row of the study."""

    target: str
    with_scores: bool
    weighting: str
    key: int


def run_case(case: Case, data: Path) -> dict:
    """Learn from draws by one weighting, and measure what was learned."""
    problem = problems.load(case.target, data)
    kept = np.arange(len(problem.draws)) % 4 == 0
    sampler = nb.DiffusionSampler(problem.target, with_scores=case.with_scores, **BUDGET)
    posterior = sampler.run(
        jax.random.key(case.key),
        draws=problem.draws[~kept],
        weighting=Table.of(WEIGHTINGS[case.weighting]),
    )
    measured = bridges.measure(
        jax.random.key(1_000 + case.key), posterior, problem._replace(draws=problem.draws[kept])
    )
    return {
        **case._asdict(),
        "monotone": w.is_monotone(WEIGHTINGS[case.weighting]),
        **measured,
        "seconds": posterior.report.seconds.train,
        **pages.commit_and_machine(),
    }


def write_table(found: list[dict]) -> None:
    """A section for each target, a line for each weighting, monotone ones first."""
    lines = [
        "# Weightings as teachers of posteriors",
        "",
        "`python -m benchmarks.weightings --data FOLDER`; all numbers are in `weightings.csv`. "
        "Each denoiser learns from 3,000 draws in 1,500 iterations of 256; figures are means over "
        f"{len(KEYS)} keys. Differences of bounds and evidence are in nats. The loss of a monotone "
        "weighting is a mixture of lower bounds.",
        pages.measured_on(found),
    ]
    for target, with_scores in SETTINGS:
        here = rows.select(found, target=target, with_scores=with_scores)
        columns = ["weighting", "monotone", *(title for _, title, _ in FIGURES)]
        cells = []
        for name, weighting in WEIGHTINGS.items():
            row = rows.select(here, weighting=name)
            numbers = [_mean(row, column, digits) for column, _, digits in FIGURES]
            cells.append([name, "yes" if w.is_monotone(weighting) else "no", *numbers])
        heading = f"## {target}, {'with' if with_scores else 'without'} scores"
        lines += ["", heading, "", *pages.table(columns, cells)]
    pages.write(TABLE, lines)


def _mean(found: list[dict], column: str, digits: int) -> str:
    values = rows.column(found, column)
    values = values[np.isfinite(values)]
    return f"{np.mean(values):.{digits}f}" if values.size else ""


def write_plot(found: list[dict]) -> None:
    """Lower and upper bound of every weighting around the log evidence, target by target."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    figure, axes = plt.subplots(1, len(SETTINGS), figsize=(3.2 * len(SETTINGS), 4), sharey=True)
    for axis, (target, with_scores) in zip(axes, SETTINGS, strict=True):
        for place, (name, weighting) in enumerate(WEIGHTINGS.items()):
            here = rows.select(found, target=target, with_scores=with_scores, weighting=name)
            color = "C0" if w.is_monotone(weighting) else "C1"
            for column, marker, sign in (("gap", "<", -1), ("eubo_gap", ">", 1)):
                values = sign * rows.column(here, column)
                axis.plot(values, [place] * len(values), marker, color=color, alpha=0.7)
        axis.axvline(0, color="0.5", linewidth=1)
        axis.set_xscale("symlog", linthresh=1)
        axis.set_title(f"{target}{', scores' if with_scores else ''}")
        axis.set_xlabel("bound - log Z [nats]")
    axes[0].set_yticks(range(len(WEIGHTINGS)), list(WEIGHTINGS))
    axes[0].invert_yaxis()
    labels = [Line2D([], [], color=f"C{i}", marker="o", linestyle="") for i in range(2)]
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.legend(labels, ["monotone", "not monotone"], loc="lower center", ncols=2)
    figure.savefig(PLOT, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run what is missing, then write table and plot of all rows."""
    parser = command_line.parser(__doc__)
    options = parser.parse_args()
    combinations = itertools.product(SETTINGS, WEIGHTINGS, KEYS)
    cases = [Case(*setting, name, key) for setting, name, key in combinations]
    found = rows.complete(RESULTS, cases, partial(run_case, data=options.data))
    write_table(found)
    write_plot(found)


if __name__ == "__main__":
    main()
