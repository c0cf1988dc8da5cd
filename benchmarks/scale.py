"""How seconds and memory grow with the size of a problem, and with devices and processes.

    python -m benchmarks.scale [--works WORK ...] [--sizes SIZE ...]

Every size is measured in a fresh process, which compiles everything anew; several devices are those
that XLA makes of one CPU, which show overhead and not speed. Results are kept in `scale.csv`, so
that an interrupted study goes on, and shown in `scale.md` and `scale.png`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import command_line, pages
from benchmarks import rows as tables

HERE = Path(__file__).parent

NO_EVIDENCE = -1e9
"""A lower log evidence than this stands for draws at which the density is not finite."""

SIZES = {
    "rows": (1_000, 10_000, 100_000, 1_000_000),
    "dimensions": (10, 30, 100, 300, 1_000, 2_000),
    "charts": (1, 4, 16, 64),
    "trajectories": (64, 256, 1_024, 4_096),
    "draws": (1_000, 10_000, 100_000, 1_000_000),
    "devices": (1, 2, 4),
    "processes": (1, 2, 4),
}
"""The sizes of each work, a function of `benchmarks.scale_works`."""


class Case(NamedTuple):
    """One process."""

    work: str
    size: int


# --- one process ----------------------------------------------------------------------------------


def measure(case: Case) -> dict:
    """The row of a case, in this process."""
    from benchmarks import scale_works

    found = getattr(scale_works, case.work)(case.size)
    return {"gigabytes": peak_gigabytes()} | found | pages.commit_and_machine()


def peak_gigabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e9


EMPTY = dict.fromkeys(
    "seconds gigabytes log_evidence log_evidence_error evidence_off ess trusted charts gradients "
    "commit machine".split()
)


def in_a_fresh_process(case: Case) -> dict:
    """The row of a case; one that fails has a row that says so."""
    command = [sys.executable, "-m", "benchmarks.scale", "--one", *map(str, case)]
    environment = dict(os.environ)
    if case.work == "devices":
        flags = f"{environment.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
        environment["XLA_FLAGS"] = flags.strip()
    output = subprocess.run(command, capture_output=True, text=True, env=environment)
    if output.returncode:
        last = (output.stderr.strip().splitlines() or ["no message"])[-1]
        return case._asdict() | EMPTY | {"failed": last[:300]}
    found = json.loads(output.stdout.splitlines()[-1])
    return case._asdict() | EMPTY | found | {"failed": ""}


# --- the page -------------------------------------------------------------------------------------


def slopes(found: list[dict], work: str) -> tuple[float, float]:
    """The exponent with which seconds grow: over all sizes, and between the last two."""
    rows = sorted(_finished(found, work), key=lambda row: int(row["size"]))
    if len(rows) < 2:
        return np.nan, np.nan
    size, seconds = (np.log(tables.column(rows, name)) for name in ("size", "seconds"))
    last = (seconds[-1] - seconds[-2]) / (size[-1] - size[-2])
    return float(np.polyfit(size, seconds, 1)[0]), float(last)


def _finished(found: list[dict], work: str) -> list[dict]:
    """The rows of a work that have a result: not those whose draws all miss the posterior."""
    rows = [row for row in tables.select(found, work=work) if row["seconds"]]
    return [row for row in rows if float(row["log_evidence"] or 0) > NO_EVIDENCE]


COLUMNS = ["work", "size", "seconds", "GB", "gradients", "ESS", "trusted", "log evidence", "off by"]


def write_page(path: Path, found: list[dict]) -> None:
    """Write the table of all sizes, and the exponents."""
    order = list(SIZES)
    found = sorted(found, key=lambda row: (order.index(row["work"]), int(row["size"])))
    exponents = [
        [work, *(f"{slope:.2f}" for slope in slopes(found, work))]
        for work in order
        if len(_finished(found, work)) > 1
    ]
    lines = [
        "# How it scales",
        "",
        "`python -m benchmarks.scale`. Rows, dimensions and charts: the defaults to 4,000 draws in "
        "a fresh process, with all compilation. Trajectories: twenty training iterations. Draws: "
        "drawing alone, without a site of 10,000 values. Devices: 16,000 draws of 64 steps, by "
        "devices that XLA makes of one CPU. Processes: the same draws by several processes, with "
        "one device each, on the same two cores. GB: the most memory of one process. Off by: for "
        "rows against importance sampling in 64 bits, for charts against the exact value, for "
        "devices and processes against the same draws on one device.",
        "",
        pages.measured_on([row for row in found if row["machine"]]),
        "",
        *pages.table(COLUMNS, map(_cells, found)),
        "",
        "Exponent: that of the power of the size with which seconds grow.",
        "",
        *pages.table(["work", "over all sizes", "between the last two"], exponents),
    ]
    pages.write(path, lines)


def _cells(row: dict) -> list[str]:
    number = partial(tables.number, row)
    return [
        row["work"],
        f"{int(row['size']):,}",
        row["failed"] or number("seconds", ".3g"),
        number("gigabytes", ".2f"),
        number("gradients", ",.0f"),
        number("ess", ".2f"),
        row["trusted"],
        tables.with_error(row, "log_evidence"),
        number("evidence_off", ".4f"),
    ]


LIMITS = {"seconds": (0.1, 3_000), "gigabytes": (0, 2)}
"""The same axes for all works, so that they can be compared."""


def plot(path: Path, found: list[dict]) -> None:
    """Seconds and memory against the size, one panel for each work."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    works = [work for work in SIZES if _finished(found, work)]
    figure, panels = pyplot.subplots(2, len(works), figsize=(2.4 * len(works), 4.6), squeeze=False)
    for column, work in enumerate(works):
        rows = sorted(_finished(found, work), key=lambda row: int(row["size"]))
        for panel, name in zip(panels[:, column], ("seconds", "gigabytes"), strict=True):
            panel.plot(tables.column(rows, "size"), tables.column(rows, name), "o-")
            panel.set_xscale("log")
            panel.set_yscale("log" if name == "seconds" else "linear")
            sizes = [int(row["size"]) for row in rows]
            panel.set_xticks(sizes, [f"{size:g}" for size in sizes], rotation=45)
            panel.xaxis.set_minor_locator(ticker.NullLocator())
            panel.yaxis.set_minor_formatter(ticker.NullFormatter())
            panel.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            panel.set_ylim(*LIMITS[name])
            panel.spines[["top", "right"]].set_visible(False)
        panels[1, column].set_xlabel(work)
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("GB")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure what is missing, then write the page and the figure."""
    parser = command_line.parser(__doc__, data=False)
    parser.add_argument("--works", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, help="only these sizes")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    if options.one:
        work, size = options.one
        print(json.dumps(measure(Case(work, int(size)))))
        return
    cases = [Case(work, size) for work in options.works for size in SIZES[work]]
    cases = [case for case in cases if options.sizes is None or case.size in options.sizes]
    shown = ("seconds", "gigabytes", "evidence_off")
    csv = options.output / "scale.csv"
    found = tables.complete(csv, cases, in_a_fresh_process, shown)
    write_page(options.output / "scale.md", found)
    plot(options.output / "scale.png", found)


if __name__ == "__main__":
    main()
