"""One training iteration of every sampler with every loss, against that of the defaults.

    python -m benchmarks.catalogue --data FOLDER

Seeds, 256 trajectories, 64 steps, width 64. Each iteration is timed in turn with one of CMCD with
`reverse_kl_ld`, so that a drift of the machine's speed cancels from the ratio. Rows that are in
`catalogue.csv` already are kept; `catalogue.md` shows all of them.
"""

import itertools
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial

import numpyro_bridge as nb
from benchmarks import command_line, pages, rows
from benchmarks.iteration import iteration, seconds_of, standardised_seeds

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "catalogue.csv", HERE / "catalogue.md"
NUM_TRAJECTORIES, NUM_STEPS = 256, 64

PROCESSES = {
    "CMCD": nb.CMCD,
    "DBS": nb.DBS,
    "PIS": nb.PIS,
    "DDS": nb.DDS,
    "DIS": nb.DIS,
    "UnderdampedCMCD": nb.UnderdampedCMCD,
    "UnderdampedCMCD, BAOAB": Partial(nb.UnderdampedCMCD, integrator=nb.processes.BAOAB()),
    "UnderdampedCMCD, OBAB": Partial(nb.UnderdampedCMCD, integrator=nb.processes.OBAB()),
    "UnderdampedCMCD, Euler-Maruyama": Partial(
        nb.UnderdampedCMCD, integrator=nb.processes.EulerMaruyama()
    ),
    "UnderdampedDBS": nb.UnderdampedDBS,
    "UnderdampedDIS": nb.UnderdampedDIS,
    "AnnealedLangevin": nb.AnnealedLangevin,
    "MCD": nb.MCD,
    "UHA": nb.UHA,
    "LDVI": nb.LDVI,
}
OBJECTIVES = {
    "reverse_kl_ld": nb.reverse_kl_ld,
    "log_variance": nb.log_variance,
    "trajectory_balance": nb.trajectory_balance,
    "forward_kl": nb.forward_kl,
    "reverse_kl": nb.reverse_kl,
    "reverse_kl_path": nb.reverse_kl_path,
}


class Case(NamedTuple):
    """One cell of the table."""

    process: str
    objective: str


def run_case(case: Case, target, reference, repeats: int) -> dict:
    """The least seconds of an iteration, and of the reference that is measured in turn with it."""
    make = PROCESSES[case.process]
    if case.objective == "trajectory_balance":
        make = nb.objectives.with_log_evidence(make)
    process = make(jax.random.key(2), target.dim, num_steps=NUM_STEPS)
    step = iteration(OBJECTIVES[case.objective], NUM_TRAJECTORIES)
    args = (jax.random.key(3), process, target)
    seconds_of(step, *args)
    pairs = [(seconds_of(step, *args), reference()) for _ in range(repeats)]
    one, other = np.min(np.asarray(pairs), axis=0)
    seconds = {"seconds": float(one), "reference_seconds": float(other)}
    return {**case._asdict(), "ratio": float(one / other), **seconds, **pages.commit_and_machine()}


def reference_iteration(target):
    """Seconds of one iteration of CMCD with `reverse_kl_ld`, whenever it is called."""
    process = nb.CMCD(jax.random.key(2), target.dim, num_steps=NUM_STEPS)
    step = iteration(nb.reverse_kl_ld, NUM_TRAJECTORIES)
    run = partial(seconds_of, step, jax.random.key(3), process, target)
    run()
    return run


def write_table(results: list[dict]) -> None:
    """Samplers down, losses across."""
    milliseconds = 1e3 * np.median(rows.column(results, "reference_seconds"))
    lines = [
        "# One training iteration of every sampler and loss",
        "",
        "`python -m benchmarks.catalogue --data FOLDER`, Seeds, 256 trajectories, 64 steps, width "
        "64.",
        "Each cell is the time of an iteration divided by that of CMCD with `reverse_kl_ld`, which "
        f"is measured in turn with it and takes {milliseconds:.0f} ms: the least of ten, without "
        "compilation.",
        pages.measured_on(results),
        "",
    ]
    table = []
    for process in PROCESSES:
        found = [rows.select(results, process=process, objective=name) for name in OBJECTIVES]
        if any(found):
            cells = (f"{float(row[0]['ratio']):.2f}" if row else "" for row in found)
            table.append([process, *cells])
    pages.write(PAGE, [*lines, *pages.table(["sampler", *OBJECTIVES], table)])


def main() -> None:
    """Measure every combination that is missing and write the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES), choices=PROCESSES)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    options = parser.parse_args()
    target = standardised_seeds(options.data)
    reference = reference_iteration(target)
    cases = itertools.starmap(Case, itertools.product(options.processes, options.objectives))
    measure = partial(run_case, target=target, reference=reference, repeats=options.repeats)
    write_table(rows.complete(RESULTS, cases, measure, shown=("ratio",)))


if __name__ == "__main__":
    main()
