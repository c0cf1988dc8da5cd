"""Underdamped against overdamped samplers at equal numbers of gradient evaluations.

    python -m benchmarks.underdamped --data FOLDER

All targets are standardised, and all budgets are equal. Each sampler is trained twice, from two
first noise levels, and the run with the better ELBO in its last iterations is measured. Rows that
are in `underdamped.csv` already are kept; `underdamped.md` and `underdamped.png` show all of them.
"""

import functools
import itertools
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import numpyro_bridge as nb
from benchmarks import bridges, command_line, pages, problems, rows

HERE = Path(__file__).parent
RESULTS, TABLE, PLOT = (HERE / f"underdamped.{suffix}" for suffix in ("csv", "md", "png"))

TARGETS = ("seeds", "funnel", "brownian")
PROCESSES = {
    "CMCD": (nb.CMCD, "diffusion"),
    "UnderdampedCMCD": (nb.UnderdampedCMCD, "step_size"),
    "DBS": (nb.DBS, "diffusion"),
    "UnderdampedDBS": (nb.UnderdampedDBS, "step_size"),
}
NUM_STEPS = (8, 16, 32, 64)
LEVELS = (0.25, 0.5)
NUM_TRAJECTORIES, NUM_ITERATIONS, NUM_DRAWS = 64, 300, 8_000


class Case(NamedTuple):
    """One row of the study; a step is a gradient evaluation."""

    target: str
    process: str
    num_steps: int


def run_case(case: Case, data: Path, num_iterations: int) -> dict:
    """Train from each noise level, and measure the better bridge."""
    problem = problems.load(case.target, data, reference=False)
    standardisation = standardisation_of(case.target, data)

    def train(level: float) -> nb.Posterior:
        make, noise = PROCESSES[case.process]
        return bridges.train(
            jax.random.key(0),
            partial(make, num_steps=case.num_steps, **{noise: level}),
            nb.reverse_kl_ld,
            problem,
            standardisation,
            num_trajectories=NUM_TRAJECTORIES,
            num_iterations=num_iterations,
        )

    trained = {level: train(level) for level in LEVELS}
    level = max(trained, key=lambda level: _late_elbo(trained[level]))
    draws = trained[level].sample(jax.random.key(1), NUM_DRAWS)
    return {
        **case._asdict(),
        "level": level,
        "gap": problem.log_evidence - draws.elbo,
        "gap_error": draws.elbo_error,
        "ess": draws.ess,
        "pareto_k": draws.pareto_k,
        "seconds": sum(posterior.report.seconds.train or 0.0 for posterior in trained.values()),
        "num_iterations": num_iterations,
        **pages.commit_and_machine(),
    }


def _late_elbo(posterior: nb.Posterior) -> float:
    """Mean over the last tenth of training; minus infinity where it has diverged."""
    elbo = np.asarray(posterior.metrics.elbo)
    return float(np.nan_to_num(np.mean(elbo[-len(elbo) // 10 :]), nan=-np.inf))


@functools.cache
def standardisation_of(target: str, data: Path) -> nb.atlas.Standardisation:
    """One fit for all samplers."""
    problem = problems.load(target, data, reference=False)
    # Affine: a bent map would leave Seeds no gap to compare.
    return nb.standardise(jax.random.key(100), problem.target, nonlinear=False)


def write_table(results: list[dict], path: Path) -> None:
    """A section for each target, a line for each sampler."""
    iterations = results[0]["num_iterations"]
    lines = [
        "# Underdamped against overdamped samplers",
        "",
        "`python -m benchmarks.underdamped --data FOLDER`. The gap is log Z - ELBO in nats, at "
        "equal numbers of steps, each with one gradient evaluation; ESS and k-hat of 8,000 draws "
        f"are in brackets. Standardised targets, `reverse_kl_ld`, {NUM_TRAJECTORIES} trajectories, "
        f"{iterations} iterations from each of two first values of `diffusion` or `step_size` "
        f"({', '.join(map(str, LEVELS))}), of which the better one is shown. There is one "
        "key, so that a difference of 0.02 nats says nothing.",
        pages.measured_on(results),
    ]
    columns = ["sampler", *(f"{num} steps" for num in NUM_STEPS)]
    for target in pages.distinct(results, "target"):
        here = rows.select(results, target=target)
        cells = [_cells(here, process) for process in PROCESSES]
        lines += ["", f"## {target}", "", *pages.table(columns, cells)]
    pages.write(path, [*lines, "", "![Gap against the number of steps](underdamped.png)"])


def _cells(found: list[dict], process: str) -> list[str]:
    by_steps = (rows.select(found, process=process, num_steps=num) for num in NUM_STEPS)
    return [process, *(_cell(row[0]) if row else "" for row in by_steps)]


def _cell(row: dict) -> str:
    gap, ess, pareto_k = (float(row[name]) for name in ("gap", "ess", "pareto_k"))
    return f"{gap:.3f} ({ess:.2f}, {pareto_k:.2f})"


def write_plot(results: list[dict], path: Path) -> None:
    """The gap against the number of steps, a panel for each target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = pages.distinct(results, "target")
    figure, axes = pyplot.subplots(
        1, len(names), figsize=(3.2 * len(names), 3), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        for place, process in enumerate(PROCESSES):
            found = rows.select(results, target=name, process=process)
            steps, gaps = rows.column(found, "num_steps"), rows.column(found, "gap")
            style = "o-" if process.startswith("Underdamped") else "s--"
            axis.semilogx(steps, gaps, style, color=f"C{place // 2}", label=process)
        axis.set(title=name, xlabel="gradient evaluations a draw")
        axis.set_ylim(bottom=0)
        axis.set_xticks(NUM_STEPS, map(str, NUM_STEPS))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("log Z - ELBO [nats]")
    axes[0, 0].legend(fontsize=7)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Run what is missing, then write table and plot."""
    parser = command_line.parser(__doc__)
    command_line.add_targets(parser, problems.NAMES, default=TARGETS)
    parser.add_argument("--num-iterations", type=int, default=NUM_ITERATIONS)
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    results, table, plot = (options.output / path.name for path in (RESULTS, TABLE, PLOT))
    cases = itertools.starmap(Case, itertools.product(options.targets, PROCESSES, NUM_STEPS))
    measure = partial(run_case, data=options.data, num_iterations=options.num_iterations)
    found = rows.complete(results, cases, measure)
    write_table(found, table)
    write_plot(found, plot)


if __name__ == "__main__":
    main()
