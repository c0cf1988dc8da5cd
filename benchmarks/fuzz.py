"""Random NumPyro models against NumPyro's own density and independent answers.

    python -m benchmarks.fuzz [--numbers 0-499] [--checks density sampler] [--output FILE]

Each number has two checks. `density` compares the target with NumPyro's potential energy, and its
sites with NumPyro's. `sampler` runs the defaults and compares evidence and moments with a grid,
weighted draws or NUTS. A row for each is added to the CSV file; what is there already is not run
again. The tables are printed, and written beside it.
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import command_line, fuzz_checks, pages, rows
from benchmarks.fuzz_models import NUM_RECIPES, Fuzz, fuzz_of, recipe_of
from benchmarks.fuzz_parts import BOUNDED, POSITIVE, REAL, VECTORS

HERE = Path(__file__).parent
CHECKS = ("density", "sampler")
MOST_IN_PROCESS = {"density": 60, "sampler": 12}
"""Programs compiled for more models would not fit in one process."""


class Case(NamedTuple):
    """One check of one model."""

    number: int
    check: str


def measure(case: Case, by: Callable[[Fuzz], fuzz_checks.Outcome]) -> dict:
    """Check one model; a crash has a row too.

    Args:
        case: The number and the name of the check.
        by: The check itself.
    """
    fuzz = fuzz_of(case.number)
    start = time.perf_counter()
    found = fuzz_checks.check(fuzz, by)
    return {
        **case._asdict(),
        "recipe": str(fuzz.recipe),
        **found._asdict(),
        "seconds": time.perf_counter() - start,
        **pages.commit_and_machine(),
    }


# --- the page -------------------------------------------------------------------------------------


def write_page(path: Path, found: list[dict], num_numbers: int) -> None:
    """Write the tables, and print them."""
    run = " ".join(
        f"`{check}`: {len(rows.select(found, check=check))} of {num_numbers} run."
        for check in CHECKS
    )
    lines = [
        "# Random models",
        "",
        f"`python -m benchmarks.fuzz`. There are {num_numbers} numbers of {NUM_RECIPES} recipes: "
        "numbers that differ by a multiple of that have one recipe, with other hyperparameters and "
        f"other data. {run}",
        "",
        "- `density`, in float64: log density and gradient equal those of "
        "`numpyro.infer.util.initialize_model` at random points, sites have its names, shapes and "
        "values, prior and likelihood sum to the density, and positions survive a round trip.",
        "- `sampler`, in float32: the defaults of `nb.BridgeSampler` agree with an independent "
        f"answer in float64. The log evidence has to be within {fuzz_checks.EVIDENCE_ERRORS:g} "
        f"errors and {fuzz_checks.EVIDENCE_SLACK:g} nats, weighted means within "
        f"{fuzz_checks.MEAN_WITHIN:g} standard deviations, these within "
        f"{fuzz_checks.SD_WITHIN:.0%}; sites with tails too heavy for {fuzz_checks.NUM_DRAWS:,} "
        f"draws are left out. What a trusted posterior misses has to be right in "
        f"{fuzz_checks.MANY_DRAWS:,} of its draws: it was the luck of the first ones then.",
        "- A model that cannot be sampled, such as one with a subsampled plate, has to be refused "
        "by an error of this package that names the reason.",
        "",
        pages.measured_on(found),
        "",
        *_by_outcome(found),
        "",
        *_by_method(rows.select(found, check="sampler")),
        "",
        *_by_ingredient(found),
        "",
        "## What may not be",
        "",
    ]
    bad = [row for row in found if row["outcome"] in fuzz_checks.BAD]
    lines += [*map(_in_full, bad)] if bad else ["None."]
    doubted = rows.select(found, outcome="untrusted")
    lines += ["", "## Not trusted", "", *(map(_in_full, doubted) if doubted else ["None."])]
    pages.write(path, lines)


def _by_outcome(found: list[dict]) -> list[str]:
    table = []
    for outcome in (*fuzz_checks.GOOD, *fuzz_checks.BAD):
        counts = [len(rows.select(found, check=check, outcome=outcome)) for check in CHECKS]
        table.append([outcome, *map(str, counts)])
    seconds = [float(np.sum(rows.column(rows.select(found, check=c), "seconds"))) for c in CHECKS]
    table.append(["seconds in all", *(f"{number:,.0f}" for number in seconds)])
    return pages.table(["outcome", *CHECKS], table)


def _by_method(found: list[dict]) -> list[str]:
    """How good the answers are, by where the reference is from."""
    table = []
    for method in ("grid", "weighted draws", "NUTS"):
        some = rows.select(found, method=method)
        if not some:
            continue
        largest = (
            np.nanmax(np.abs(rows.column(some, name)), initial=0.0)
            for name in ("evidence_off", "mean_off", "sd_off")
        )
        right = len(rows.select(some, right="True"))
        table.append([method, str(len(some)), str(right), *(f"{number:.3f}" for number in largest)])
    columns = ["reference", "number", "right", "log evidence off by", "mean (sd)", "sd (share)"]
    return pages.table(columns, table)


def _by_ingredient(found: list[dict]) -> list[str]:
    """How often a part of a model was there, and in how many of these all was well."""
    all_rows: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for row in found:
        for part in _ingredients(int(row["number"])):
            all_rows[part] += 1
            bad[part] += row["outcome"] in fuzz_checks.BAD
    table = [[part, str(all_rows[part]), str(bad[part])] for part in sorted(all_rows)]
    return pages.table(["part of the model", "checks", "that may not be"], table)


def _ingredients(number: int) -> set[str]:
    recipe = recipe_of(number)
    supports = {"real": REAL, "positive": POSITIVE, "bounded": BOUNDED, "vector": VECTORS}
    parts = {
        f"prior: {name}"
        for name, priors in supports.items()
        if any(prior in priors for prior in recipe.priors)
    }
    parts |= {f"twist: {twist}" for twist in recipe.twists}
    parts |= {f"data: {recipe.data_type}", f"called as: {recipe.call}"}
    parts |= {f"plates: {recipe.plates}"} if recipe.plates else set()
    return parts | ({f"refused: {recipe.fault}"} if recipe.fault else set())


def _in_full(row: dict) -> str:
    return f"- {row['number']}, {row['check']} ({row['recipe']}): {row['outcome']}: {row['why']}"


# --- the command line -----------------------------------------------------------------------------


def _numbers(text: str) -> Sequence[int]:
    """A range such as "0-499", both ends included, or single numbers such as "3,17"."""
    try:
        if "," in text:
            return [int(number) for number in text.split(",") if number]
        first, _, last = text.partition("-")
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected such as 0-499 or 3,17, got {text!r}") from None


def _use_float64() -> None:
    jax.config.update("jax_enable_x64", True)


def _measured(cases: list[Case], output: Path) -> None:
    """Run cases of one check, and keep their rows."""
    exact = cases[0].check == "density"
    jax.config.update("jax_enable_x64", exact)
    # Answers need float64, which JAX does not let a process switch on and off without errors.
    with ProcessPoolExecutor(1, get_context("spawn"), _use_float64) as pool:

        def find_answer(number: int):
            return pool.submit(fuzz_checks.answer_to, number).result()

        by = partial(fuzz_checks.sampler, find_answer=find_answer)
        for case in cases:
            row = measure(case, fuzz_checks.density if exact else by)
            rows.append(output, row)
            print(*case, row["outcome"], f"{row['seconds']:.1f} s", row["why"][:200], flush=True)


def _in_processes(cases: list[Case], output: Path) -> None:
    """Run cases in processes of their own, those of one recipe together."""
    for check, most in MOST_IN_PROCESS.items():
        numbers = [case.number for case in cases if case.check == check]
        numbers.sort(key=lambda number: (number % NUM_RECIPES, number))
        for first in range(0, len(numbers), most):
            some = ",".join(map(str, numbers[first : first + most]))
            command = [sys.executable, "-m", "benchmarks.fuzz", "--numbers", f"{some},"]
            command += ["--checks", check, "--output", str(output)]
            subprocess.run(command, check=True)


def main() -> None:
    """Run what is missing, then print and write the tables."""
    parser = command_line.parser(__doc__, data=False)
    parser.add_argument("--numbers", type=_numbers, default=range(500), help="such as 0-499")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--output", type=Path, default=HERE / "fuzz.csv", help="the CSV file")
    options = parser.parse_args()
    cases = [Case(number, check) for check in options.checks for number in options.numbers]
    every = rows.missing(cases, options.output)
    print(f"{len(cases)} checks, of which {len(cases) - len(every)} are there already", flush=True)
    if len(every) > max(MOST_IN_PROCESS.values()) or len(options.checks) > 1:
        _in_processes(every, options.output)
    elif every:
        _measured(every, options.output)
    found = rows.read(options.output)
    write_page(options.output.with_suffix(".md"), found, 500)


if __name__ == "__main__":
    main()
