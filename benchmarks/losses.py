"""The study of Sanokowski et al. (2025): losses over samplers, with learned and with fixed noise.

    python -m benchmarks.losses --data FOLDER [--preset small]

Targets are taken with and without standardisation, and all budgets are equal. Every bridge starts
from one normal distribution. The rows of targets with several modes were measured when the map of
`nb.standardise` covered all modes that it saw; now it is that of the heaviest. The paper chooses
scales for each target from a grid; here none is tuned. Rows that are in `losses.csv` already are
kept, so an interrupted study goes on where it was; `losses.md` and `losses.png` show all of them.
The preset `small` takes about twenty minutes on two cores.
"""

import functools
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax

import numpyro_bridge as nb
from benchmarks import bridges, command_line, losses_report, pages, problems, rows

HERE = Path(__file__).parent
RESULTS, TABLE, PLOT = HERE / "losses.csv", HERE / "losses.md", HERE / "losses.png"

PROCESSES = {"CMCD": nb.CMCD, "DBS": nb.DBS, "PIS": nb.PIS, "DDS": nb.DDS, "DIS": nb.DIS}
OBJECTIVES = {
    "reverse_kl": nb.reverse_kl,
    "reverse_kl_ld": nb.reverse_kl_ld,
    "log_variance": nb.log_variance,
}
STANDARDISATIONS = {
    "yes": functools.partial(nb.standardise, nonlinear=False),
    "bent": nb.standardise,
    "no": bridges.no_map,
}
"""`yes` is an affine map, `bent` one that may bend as by default, `no` no map at all."""


class Case(NamedTuple):
    """One row of the study."""

    target: str
    process: str
    objective: str
    noise: str
    standardised: str
    key: int
    num_steps: int
    num_trajectories: int
    num_iterations: int


class Preset(NamedTuple):
    """Which cases are run, and the budget of each."""

    targets: tuple[str, ...]
    num_steps: int
    num_trajectories: int
    num_iterations: int
    processes: tuple[str, ...] = tuple(PROCESSES)
    objectives: tuple[str, ...] = tuple(OBJECTIVES)
    noise: tuple[str, ...] = ("learned", "fixed")
    standardised: tuple[str, ...] = ("yes", "no")
    keys: tuple[int, ...] = (0, 1, 2)

    def cases(self) -> Iterator[Case]:
        """All combinations; those that share compiled code follow each other."""
        parts = (self.targets, self.processes, self.objectives, self.noise, self.standardised)
        for combination in itertools.product(*parts, self.keys):
            yield Case(*combination, *self[1:4])


POSTERIORS = ("seeds", "sonar", "ionosphere", "german_credit", "brownian")
SYNTHETIC = ("funnel", "double_wells", "many_well", "gmm40_2d", "gmm40_50d", "students_50d")
PRESETS = {
    "small": Preset(("seeds", "funnel"), 16, 128, 400, processes=("CMCD", "DBS", "DDS")),
    "full": Preset((*POSTERIORS, *SYNTHETIC, "cox_8", "cox_16"), 96, 256, 2_000),
}


def run_case(case: Case, data: Path) -> dict:
    """Train one combination and measure it."""
    problem = problems.load(case.target, data)
    posterior = bridges.train(
        jax.random.key(case.key),
        process_of(case.process, case.num_steps),
        OBJECTIVES[case.objective],
        problem,
        standardisation_of(case.target, case.standardised, case.key, data),
        num_trajectories=case.num_trajectories,
        num_iterations=case.num_iterations,
        learn_noise=case.noise == "learned",
    )
    return {
        **case._asdict(),
        **bridges.measure(jax.random.key(1_000 + case.key), posterior, problem),
        "skipped": posterior.report.num_skipped_updates,
        "seconds": posterior.report.seconds.train,
        **pages.commit_and_machine(),
    }


@functools.cache
def process_of(name: str, num_steps: int):
    """The constructor of a sampler with so many steps."""
    return partial(PROCESSES[name], num_steps=num_steps)


@functools.cache
def standardisation_of(
    target: str, standardised: str, key: int, data: Path
) -> nb.atlas.Standardisation:
    """One fit for all combinations on a target, or none."""
    choose = STANDARDISATIONS[standardised]
    return choose(jax.random.key(100 + key), problems.load(target, data).target)


def main() -> None:
    """Run what is missing of a preset, then write table and plot of all rows."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument(
        "--targets", nargs="+", choices=problems.NAMES, help="instead of the preset's"
    )
    parser.add_argument("--processes", nargs="+", choices=PROCESSES, help="instead of the preset's")
    parser.add_argument("--keys", nargs="+", type=int, help="instead of the preset's")
    parser.add_argument("--num-iterations", type=int, help="instead of the preset's")
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name in Preset._fields and value is not None
    }
    preset = PRESETS[options.preset]._replace(**changes)
    results, table, plot = (options.output / path.name for path in (RESULTS, TABLE, PLOT))
    found = rows.complete(results, preset.cases(), partial(run_case, data=options.data))
    losses_report.write_table(found, table)
    losses_report.write_plot(found, plot)


if __name__ == "__main__":
    main()
