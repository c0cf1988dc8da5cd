"""The defaults, nothing tuned, on targets with known evidence and moments.

    python -m benchmarks.reference --data FOLDER

Every row is a fresh process, so its seconds include all compilation; rows that are already in
`reference.csv` are kept, and `--fresh` does them anew. The table is written to `reference.md`.
"""

import argparse
import itertools
import json
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import command_line, pages, rows
from benchmarks.targets import NAMES, load

HERE = Path(__file__).parent
RESULTS, TABLE = HERE / "reference.csv", HERE / "reference.md"

COLUMNS = [
    "target",
    "dim",
    "key",
    "log Z",
    "ELBO",
    "log evidence",
    "ESS",
    "k-hat",
    "means within, sds",
    "charts",
    "process",
    "seconds",
    "within limits",
]

# Least ELBO, largest error of the log evidence, largest error of a posterior mean in sds, seconds.
LIMITS = {
    "eight_schools": (-31.45, 0.05, 0.1, 60),
    "seeds": (-73.60, 0.08, 0.1, 90),
    "sonar": (-108.65, 0.10, 0.1, 150),
    "ionosphere": (-111.80, 0.08, 0.1, 120),
    "german_credit": (-585.20, 0.05, 0.1, 90),
    "brownian": (1.00, 0.10, 0.1, 150),
}


class Case(NamedTuple):
    """One run with the defaults."""

    target: str
    key: int


def in_a_fresh_process(case: Case, data: Path) -> dict:
    """The row of a case, measured by this module in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reference", "--data", str(data)]
    command += ["--one", case.target, str(case.key)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def measure(name: str, key: int, data: Path) -> dict:
    """One run with the defaults, from the model to corrected draws."""
    import jax

    import numpyro_bridge as nb

    benchmark = load(name, data)
    start = time.perf_counter()
    posterior = nb.BridgeSampler(benchmark.model, progress_bar=False).run(
        jax.random.key(key), **benchmark.kwargs
    )
    draws = posterior.sample(jax.random.key(1_000 + key), num_samples=16_000)
    atlas = posterior.atlas
    assert atlas is not None  # by default every target is charted
    row = {
        "target": name,
        "key": key,
        "dim": posterior.target.dim,
        "log_evidence_reference": benchmark.reference.log_evidence,
        "elbo": draws.elbo,
        "elbo_error": draws.elbo_error,
        "log_evidence": draws.log_evidence,
        "log_evidence_error": draws.log_evidence_error,
        "ess": draws.ess,
        "pareto_k": draws.pareto_k,
        "seconds": time.perf_counter() - start,
        "process": posterior.report.process,
        "iterations": posterior.report.num_iterations or 0,
        "gradient_evaluations": draws.report.num_gradient_evaluations,
        "charts": atlas.num_charts,
        "repairs": atlas.num_repairs,
        "ess_of_charts": atlas.ess,
        "tail_share": draws.tail_share,
    }
    idata = nb.to_inference_data(
        draws, predictive=False, prior=False, log_likelihood=False, log_prior=False
    )
    return row | {"mean_error": largest_mean_error(idata["posterior"], benchmark.reference)}


def largest_mean_error(posterior, reference) -> float:
    """The largest distance of a posterior mean from the reference, in standard deviations of it."""
    errors = [
        np.max(np.abs(posterior[name].mean(("chain", "draw")).values - mean) / reference.sd[name])
        for name, mean in reference.mean.items()
    ]
    return float(np.max(errors))


def verdict(row: dict) -> str:
    """Whether a row is within all limits: "yes", or "no" and the ones that it misses."""
    least_elbo, evidence_within, mean_within, seconds = LIMITS[row["target"]]
    reference = float(row["log_evidence_reference"])
    misses = {
        "ELBO": float(row["elbo"]) < least_elbo,
        "evidence": abs(float(row["log_evidence"]) - reference) > evidence_within,
        "means": float(row["mean_error"]) > mean_within,
        "seconds": float(row["seconds"]) > seconds,
        "bound": float(row["elbo"]) > reference + 3 * float(row["elbo_error"]) + 0.01,
    }
    missed = [name for name, miss in misses.items() if miss]
    return "yes" if not missed else "no: " + ", ".join(missed)


def write_table(rows: list[dict]) -> None:
    """Write the Markdown table of all rows."""
    import jax

    device = jax.devices()[0].device_kind
    lines = [
        "# Reference targets with the defaults",
        "",
        "`python -m benchmarks.reference --data FOLDER`. Seconds run from the model to weighted "
        "draws, compilation included.",
        f"Machine: {device}, {platform.machine()}, JAX {jax.__version__}, Python "
        f"{platform.python_version()}.",
        "",
    ]
    pages.write(TABLE, [*lines, *pages.table(COLUMNS, map(_cells, rows))])


def _cells(row: dict) -> list[str]:
    def number(name: str, digits: int) -> str:
        return f"{float(row[name]):.{digits}f}"

    return [
        row["target"],
        row["dim"],
        row["key"],
        number("log_evidence_reference", 3),
        f"{number('elbo', 3)} ± {number('elbo_error', 3)}",
        f"{number('log_evidence', 3)} ± {number('log_evidence_error', 3)}",
        number("ess", 2),
        number("pareto_k", 2),
        number("mean_error", 3),
        row["charts"],
        row["process"],
        number("seconds", 0),
        verdict(row),
    ]


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = command_line.parser(__doc__)
    command_line.add_targets(parser, NAMES)
    command_line.add_keys(parser, default=(0, 1, 2))
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    parser.add_argument("--one", nargs=2, metavar=("TARGET", "KEY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, key = options.one
        print(json.dumps(measure(name, int(key), options.data)))
        return
    if options.fresh:
        RESULTS.unlink(missing_ok=True)
    cases = itertools.starmap(Case, itertools.product(options.targets, options.keys))
    found = rows.complete(
        RESULTS,
        cases,
        partial(in_a_fresh_process, data=options.data),
        shown=("elbo", "log_evidence", "seconds"),
    )
    write_table(found)


if __name__ == "__main__":
    main()
