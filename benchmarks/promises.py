"""What the library promises, and how often that was tried, as docs/reference/promises.md.

    python -m benchmarks.promises

Arguments, faults, files and kills are tried by this command, in about ten minutes. The counts of
random models, of exact posteriors and of calibrations are read from the tables of these studies,
which take hours: `benchmarks.fuzz`, `benchmarks.honesty` and `benchmarks.calibrate`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import calibrate, command_line, damage, fuzz_checks, pages, rows
from numpyro_bridge.draws.calibration import SMALL

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "promises.md"

FAULT_TESTS = (
    "tests/infer/test_doors.py",
    "tests/infer/test_faults.py",
    "tests/training/test_faults.py",
    "tests/core/test_interrupts.py",
    "tests/infer/test_auto_bridge.py",
    "tests/infer/test_amortised.py",
    "tests/infer/test_diffusion_sampler.py",
    "tests/infer/test_diffusion_sampler_on_charts.py",
    "tests/atlas/test_broken_optimiser.py",
)
"""The tests that inject what `tests/faults.py` lists."""

COLUMNS = ("promise", "tried by", "tried", "kept", "not kept")


class Line(NamedTuple):
    """One promise, and how often it was tried and kept."""

    promise: str
    by: str
    tried: int
    kept: int

    @property
    def cells(self) -> list[str]:
        """The row of the table."""
        lost = self.tried - self.kept
        return [self.promise, self.by, f"{self.tried:,}", f"{self.kept:,}", f"{lost:,}"]


# --- tried now ------------------------------------------------------------------------------------


def of_arguments() -> Iterator[Line]:
    """Every public argument with what users give by mistake."""
    counts = _in_tests("from tests.arguments.tables import counts; print(json.dumps(counts()))")
    doors, arguments, tried, working, refused, _, _ = counts
    yield Line(
        f"An argument works or is refused by its name ({arguments} arguments of {doors} calls: "
        f"{working:,} values work, {refused:,} are refused)",
        "`python -m tests.arguments`",
        tried,
        working + refused,
    )


def of_faults() -> Iterator[Line]:
    """Interrupts, broken optimisers, calls in the wrong place; and kills."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", *FAULT_TESTS], cwd=ROOT, check=False
    )
    injected, kills = _in_tests(
        "from tests import faults; print(json.dumps([len(faults.INJECTED), len(faults.KILLS)]))"
    )
    passed = run.returncode == 0
    yield Line(
        "An interrupt, an optimiser that fails, a call inside compiled code or after a fork is "
        "survived or refused at once",
        "the tests of `tests/faults.py`",
        injected,
        injected if passed else 0,
    )
    yield Line(
        "A training that is killed at a chosen moment resumes bit for bit",
        "the tests of `tests/faults.py`",
        kills,
        kills if passed else 0,
    )


def of_files() -> Iterator[Line]:
    """Damaged files, and trainings that are killed at random moments."""
    for name, counts in damage.damaged_files().items():
        promise = f"A damaged file is refused: {name}"
        yield Line(promise, "`python -m benchmarks.damage`", *counts)
    promise = "A training that is killed at a random moment resumes bit for bit"
    yield Line(promise, "`python -m benchmarks.damage`", *damage.kills())


def _in_tests(code: str):
    """What code prints as JSON, in a process with the settings of the tests."""
    command = f"import json; import tests.conftest; {code}"
    run = subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, stdout=-1)
    return json.loads(run.stdout.splitlines()[-1])


# --- read from the tables of other studies --------------------------------------------------------


def of_models(folder: Path) -> Iterator[Line]:
    """Random models, by the density and by the sampler."""
    found = rows.read(folder / "fuzz.csv")
    for check, promise in {
        "density": "A model has the density that NumPyro gives it, or is refused with its reason",
        "sampler": "No random model crashes, and none is trusted though its answer is wrong",
    }.items():
        mine = rows.select(found, check=check)
        kept = sum(row["outcome"] in fuzz_checks.GOOD for row in mine)
        late = len(rows.select(mine, outcome="agrees in more draws"))
        if late:
            promise += f" ({late} right only in more draws than the first 4,000)"
        yield Line(promise, "`python -m benchmarks.fuzz`", len(mine), kept)


def of_posteriors(folder: Path) -> Iterator[Line]:
    """Posteriors that are exact by construction."""
    found = [row for row in rows.read(folder / "honesty.csv") if not row["failed"]]
    wrong = [row for row in found if row["trusted"] == "True" and row["right"] != "True"]
    promise = "No answer is trusted that is wrong"
    by = "`python -m benchmarks.honesty`"
    yield Line(promise, by, len(found), len(found) - len(wrong))


def of_calibrations(folder: Path) -> Iterator[Line]:
    """Samplers run on data of which the truth is known."""
    found = rows.read(folder / "calibrate.csv")
    names = pages.distinct(found, "model")
    calibrations = [calibrate.calibration(rows.select(found, model=name)) for name in names]
    kept = sum(one.p_value >= SMALL for one in calibrations)
    promise = (
        f"The defaults are calibrated ({len(found)} simulated data sets of {len(names)} models)"
    )
    yield Line(promise, "`python -m benchmarks.calibrate`", len(names), kept)


def main() -> None:
    parser = command_line.parser(__doc__, data=False)
    command_line.add_output(parser, PAGE)
    output = parser.parse_args().output
    folder = Path(__file__).parent
    lines = [
        *of_arguments(),
        *of_faults(),
        *of_files(),
        *of_models(folder),
        *of_posteriors(folder),
        *of_calibrations(folder),
    ]
    pages.write(output, page(lines))


def page(lines: list[Line]) -> list[str]:
    """The page: a table of all promises, and where they are not kept."""
    return [
        "# Promises",
        "",
        "The library promises to give no wrong answer without a word, to lose nothing, and to "
        "accept nothing that cannot work. This table says how often each of these was tried and "
        "kept. `python -m benchmarks.promises` regenerates it: arguments, faults, files and kills "
        "are tried anew, and the other counts are those of the tables of the studies named here.",
        "",
        *pages.table(COLUMNS, [line.cells for line in lines]),
        "",
        pages.measured_on(),
        "",
        "What was not kept is listed by the studies, in `benchmarks/honesty.md` and "
        "`benchmarks/fuzz.md`, with the verdict and the reason.",
    ]


if __name__ == "__main__":
    main()
