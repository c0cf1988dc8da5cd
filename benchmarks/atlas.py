"""The defaults on targets with several modes, funnels and bent ridges, beside NUTS.

    python -m benchmarks.atlas --data FOLDER [--cases FOLDER] [--targets "normals_8_*" ring]

Every row is a fresh process, so its seconds include all compilation. Rows of the bridge are kept in
`atlas.csv` and those of NUTS in `atlas_nuts.csv`; what is there already is not run again unless
`--fresh` is given. The table of all rows is written to `atlas.md`.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from benchmarks import atlas_measure, command_line, pages, rows
from benchmarks.atlas_measure import Bridge, Case, Chains, Folders
from benchmarks.atlas_targets import CASES, NAMES, load
from benchmarks.fresh_process import row_or_reason

HERE = Path(__file__).parent

COLUMNS = [
    "target",
    "dim",
    "key",
    "log Z",
    "log evidence",
    "error",
    "masses off",
    "modes",
    "ESS",
    "k-hat",
    "ELBO",
    "trusted",
    "charts",
    "gradients",
    "seconds",
    "limits missed",
    "NUTS: seconds",
    "masses off",
    "r-hat",
]


class Sampler(NamedTuple):
    """How a sampler is measured, and what its row is where it fails."""

    measure: Callable[[Case, Folders], dict]
    failed: Callable[[Case, Folders], dict]
    file: str
    shown: tuple[str, ...]


def _failed_bridge(case: Case, folders: Folders) -> dict:
    known = load(case.target, *folders)
    return atlas_measure.bridge_row(case, known.limits, Bridge(reference=known.log_evidence))


SAMPLERS = {
    "bridge": Sampler(
        atlas_measure.measure_bridge,
        _failed_bridge,
        "atlas.csv",
        ("error", "total_variation", "ess", "pareto_k", "seconds"),
    ),
    "nuts": Sampler(
        atlas_measure.measure_nuts,
        lambda case, folders: atlas_measure.nuts_row(case, Chains()),
        "atlas_nuts.csv",
        ("total_variation", "r_hat", "seconds"),
    ),
}


def in_a_fresh_process(case: Case, sampler: str, folders: Folders, timeout: float) -> dict:
    """The row of a case, measured by this module in a process of its own; a failure has one too."""
    command = [sys.executable, "-m", "benchmarks.atlas", "--data", str(folders.data)]
    command += ["--one", case.target, str(case.key), "--samplers", sampler]
    command += [] if folders.cases is None else ["--cases", str(folders.cases)]
    found = row_or_reason(command, timeout)
    if isinstance(found, dict):
        return found
    return {**SAMPLERS[sampler].failed(case, folders), "failed": found}


def forget(path: Path, cases: Iterable[Case]) -> None:
    """Remove the rows of these cases from a file."""
    gone = {tuple(map(str, case)) for case in cases}
    kept = [row for row in rows.read(path) if (row["target"], row["key"]) not in gone]
    path.unlink(missing_ok=True)
    for row in kept:
        rows.append(path, row)


def complete(path: Path, cases: Iterable[Case], sampler: str, folders: Folders, timeout: float):
    """Measure each case that the file lacks, keep its row at once, and return all rows."""
    for case in rows.missing(cases, path):
        row = in_a_fresh_process(case, sampler, folders, timeout)
        rows.append(path, row)
        shown = [f"{name} {row[name]:.3g}" for name in SAMPLERS[sampler].shown if row[name]]
        print(sampler, *case, *shown, row.get("missed", ""), row["failed"], flush=True)
    return rows.read(path)


# --- the page -------------------------------------------------------------------------------------


def write_page(path: Path, bridges: list[dict], chains: list[dict]) -> None:
    """Write the table of all rows, and print it."""
    by_case = {(row["target"], row["key"]): row for row in chains}
    order = [*NAMES, *CASES]
    bridges = sorted(bridges, key=lambda row: (order.index(row["target"]), int(row["key"])))
    lines = [
        "# Several modes, funnels and ridges with the defaults",
        "",
        "`python -m benchmarks.atlas --data FOLDER --cases FOLDER`. Each row is a process of its "
        f"own; seconds run from the model to {atlas_measure.NUM_DRAWS:,} weighted draws, "
        "compilation included. *Masses off* is the total variation between the weighted shares of "
        "the draws in the modes and the true masses. A mode is found if it has at least "
        f"{atlas_measure.FOUND:.0%} of its mass. NUTS: four vectorised chains, 1,000 draws of each "
        "after 1,000 iterations of warm-up.",
        "",
        pages.measured_on([*bridges, *chains]),
        "",
    ]
    table = [_cells(row, by_case.get((row["target"], row["key"]), {})) for row in bridges]
    pages.write(path, [*lines, *pages.table(COLUMNS, table)])


def _cells(row: dict, chains: dict) -> list[str]:
    def number(name: str, digits: int, source: dict = row) -> str:
        value = source.get(name) or ""
        return f"{float(value):.{digits}f}" if value else ""

    outcome = row["failed"] or row["missed"] or ("none" if row["limits"] else "nothing asked")
    modes = f"{row['num_found']} of {row['num_modes']}" if row["num_modes"] else ""
    estimate = f"{number('log_evidence', 3)} ± {number('log_evidence_error', 3)}"
    return [
        row["target"],
        row["dim"],
        row["key"],
        number("reference", 3),
        estimate if row["log_evidence"] else "",
        number("error", 3),
        number("total_variation", 3),
        modes,
        number("ess", 2),
        number("pareto_k", 2),
        number("elbo", 3),
        {"True": "yes", "False": "no"}.get(row["trustworthy"], ""),
        row["num_charts"],
        number("gradient_evaluations", 0),
        number("seconds", 0),
        outcome,
        chains.get("failed") or number("seconds", 0, chains),
        number("total_variation", 3, chains),
        number("r_hat", 2, chains),
    ]


# --- the command line -----------------------------------------------------------------------------


def chosen(patterns: Iterable[str] | None, folders: Folders) -> list[str]:
    """The targets that match, in the order of the benchmark.

    Args:
        patterns: Names or patterns as a shell has them, joined by commas or not; None for every
            target whose folder is given.
        folders: Where the data and the cases are.

    Raises:
        SystemExit: if a pattern matches no target.
    """
    if patterns is None:
        return [*NAMES, *([] if folders.cases is None else CASES)]
    wanted = [part for pattern in patterns for part in pattern.split(",") if part]
    names = [*NAMES, *CASES]
    for pattern in wanted:
        if not any(fnmatch(name, pattern) for name in names):
            raise SystemExit(f"no target {pattern!r}; choose from {', '.join(names)}")
    return [name for name in names if any(fnmatch(name, pattern) for pattern in wanted)]


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser(__doc__)
    parser.add_argument("--cases", type=Path, help="folder of the cases, which are left out else")
    parser.add_argument("--targets", nargs="+", help="names or patterns, all by default")
    parser.add_argument("--keys", nargs="+", default=["0,1,2"], help="one run for each of these")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--timeout", type=float, default=1_200.0, help="most seconds of one run")
    parser.add_argument("--fresh", action="store_true", help="run the chosen targets anew")
    parser.add_argument("--one", nargs=2, metavar=("TARGET", "KEY"), help="print one row as JSON")
    command_line.add_output(parser, HERE)
    return parser


def main() -> None:
    """Run what is missing, then print and write the table."""
    options = _parser().parse_args()
    folders = Folders(options.data, options.cases)
    if options.one:
        name, key = options.one
        for sampler in options.samplers:
            print(json.dumps(SAMPLERS[sampler].measure(Case(name, int(key)), folders)), flush=True)
        return
    keys = [int(key) for part in options.keys for key in part.split(",") if key]
    names = chosen(options.targets, folders)
    cases = list(itertools.starmap(Case, itertools.product(names, keys)))
    for name in options.samplers:
        path = options.output / SAMPLERS[name].file
        if options.fresh:
            forget(path, cases)
        complete(path, cases, name, folders, options.timeout)
    bridges, chains = (rows.read(options.output / SAMPLERS[name].file) for name in SAMPLERS)
    write_page(options.output / "atlas.md", bridges, chains)


if __name__ == "__main__":
    main()
