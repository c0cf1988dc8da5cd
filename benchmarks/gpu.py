"""The defaults and one training iteration on an accelerator, beside two cores of a CPU.

    python -m benchmarks.gpu --data FOLDER [--limit SECONDS]

Every run of the defaults is a fresh process, stopped after `--limit` seconds; in the same process
another key follows, for which everything is compiled. JAX chooses the device: run this once on the
accelerator, and once elsewhere with `JAX_PLATFORMS=cpu`. Rows of both are kept in `gpu.csv`. The
table is written to `gpu.md`. ArviZ is not needed.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import command_line, pages, rows

HERE = Path(__file__).parent
NUM_DRAWS = 4_000
LIMIT = 90.0
"""Seconds after which a run of the defaults is stopped."""

MODELS = ("eight_schools", "seeds", "sonar", "ionosphere", "german_credit", "brownian")
DENSITIES = ("gmm40_50d", "cox_40")
LARGE = ("item_response_500d", "item_response_5000d", "hierarchy_400d")
TRAJECTORIES = (256, 2_048, 16_384)
"""How many trajectories an iteration has; each has 64 steps."""

NUM_ITERATIONS = 20


class Case(NamedTuple):
    """One process on one kind of device."""

    work: str
    """A target for the defaults, or "iteration" with a number of trajectories."""
    device: str


# --- the targets ----------------------------------------------------------------------------------


def load(name: str, data: Path) -> tuple[Any, dict[str, Any], float]:
    """A model or a target, its arguments, and its log evidence, NaN where nobody knows it."""
    from benchmarks import densities, large_models, targets

    if name in LARGE:
        return *large_models.load(name), float("nan")
    if name in DENSITIES:
        density = densities.LOADERS[name](data)
        return density.target, {}, density.log_evidence
    benchmark = targets.load(name, data)
    return benchmark.model, benchmark.kwargs, benchmark.reference.log_evidence


# --- one process ----------------------------------------------------------------------------------


def measure(work: str, data: Path) -> dict:
    """The row of a case, in this process."""
    name, _, num = work.partition(" ")
    found = _iteration(int(num), data) if name == "iteration" else _defaults(name, data)
    return {**found, "gigabytes": _peak_gigabytes(), **pages.commit_and_machine()}


def _defaults(name: str, data: Path) -> dict:
    """Seconds of two runs of the defaults, and how good the second was."""
    import jax

    import numpyro_bridge as nb

    model, kwargs, truth = load(name, data)
    sampler = nb.BridgeSampler(model, progress_bar=False)
    seconds = []
    for key in range(2):
        start = time.perf_counter()
        posterior = sampler.run(jax.random.key(key), **kwargs)
        draws = posterior.sample(jax.random.key(1_000 + key), NUM_DRAWS)
        trusted = draws.verdict.trustworthy
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds[0],
        "seconds_again": seconds[1],
        "log_evidence": draws.log_evidence,
        "log_evidence_error": draws.log_evidence_error,
        "evidence_off": draws.log_evidence - truth,
        "ess": draws.ess,
        "pareto_k": draws.pareto_k,
        "trusted": trusted,
        "process": posterior.report.process,
    }


def _iteration(num_trajectories: int, data: Path) -> dict:
    """Seconds of one training iteration of CMCD by rKL-LD on Seeds, its compilation left out."""
    import jax

    import numpyro_bridge as nb
    from benchmarks.iteration import iteration, standardised_seeds

    target = standardised_seeds(data)
    process = nb.CMCD(jax.random.key(0), target.dim, num_steps=64)
    run = iteration(nb.reverse_kl_ld, num_trajectories)
    jax.block_until_ready(run(jax.random.key(0), process, target))
    start = time.perf_counter()
    for key in jax.random.split(jax.random.key(1), NUM_ITERATIONS):
        result = run(key, process, target)
    jax.block_until_ready(result)
    return {"seconds_again": (time.perf_counter() - start) / NUM_ITERATIONS}


def _peak_gigabytes() -> float:
    """The most memory that was in use: of the device where it says so, else of the process."""
    import jax

    statistics = jax.devices()[0].memory_stats() or {}
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    return statistics.get("peak_bytes_in_use", process) / 1e9


EMPTY = dict.fromkeys(
    "seconds seconds_again log_evidence log_evidence_error evidence_off ess pareto_k trusted "
    "process gigabytes commit machine".split()
)


def in_a_fresh_process(case: Case, data: Path, limit: float) -> dict:
    """The row of a case; one that has no result in time, or fails, has a row that says so."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--data", str(data), "--one", case.work]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return case._asdict() | EMPTY | {"failed": f"no result in {limit:.0f} s"}
    if output.returncode:
        last = (output.stderr.strip().splitlines() or ["no message"])[-1]
        return case._asdict() | EMPTY | {"failed": last[:300]}
    found = json.loads(output.stdout.splitlines()[-1])
    return case._asdict() | EMPTY | found | {"failed": ""}


# --- the page -------------------------------------------------------------------------------------

COLUMNS = ["work", "device", "seconds", "once compiled", "log evidence", "off by", "ESS", "k-hat"]
COLUMNS += ["trusted", "process", "GB", ""]


def write_page(path: Path, found: list[dict]) -> None:
    """Write the table: each work on each device."""
    lines = [
        "# On an accelerator",
        "",
        f"`python -m benchmarks.gpu --data FOLDER`: the defaults to {NUM_DRAWS:,} draws in a fresh "
        "process, with all compilation, and once more with another key. The other columns are of "
        "the second run. `iteration N`: seconds of one training iteration of CMCD by rKL-LD on "
        "Seeds, N trajectories of 64 steps. GB: the most memory in use on the device, on a CPU "
        "that of the process.",
        "",
        "Rows of commit 34c12d6 were measured before matrices were multiplied in full precision on "
        "accelerators, which may be why the log evidence of `cox_40` is off by nine of its errors.",
        "",
        pages.measured_on([row for row in found if row["machine"]]),
        "",
        *pages.table(COLUMNS, map(_cells, sorted(found, key=lambda row: WORKS.index(row["work"])))),
    ]
    pages.write(path, lines)


def _cells(row: dict) -> list[str]:
    number = partial(rows.number, row)
    return [
        row["work"],
        row["device"],
        number("seconds", ".1f"),
        number("seconds_again", ".3g"),
        rows.with_error(row, "log_evidence"),
        number("evidence_off", ".3f"),
        number("ess", ".2f"),
        number("pareto_k", ".2f"),
        row["trusted"],
        row["process"],
        number("gigabytes", ".2f"),
        row["failed"],
    ]


WORKS = [f"iteration {num}" for num in TRAJECTORIES] + [*MODELS, *DENSITIES, *LARGE]


def main() -> None:
    """Run what is missing on this device, then print and write the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of a run at most")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.data)))
        return
    command = [sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"]
    device = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    found = rows.complete(
        options.output / "gpu.csv",
        (Case(work, device) for work in options.works),
        partial(in_a_fresh_process, data=options.data, limit=options.limit),
        shown=(),
    )
    write_page(options.output / "gpu.md", found)


if __name__ == "__main__":
    main()
