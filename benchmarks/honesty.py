"""How often a trusted answer is right: the defaults on posteriors that are exact by construction.

    python -m benchmarks.honesty [--numbers 0:200] [--one NUMBER]

Posteriors of one kind and dimension share a process, so that programs compiled for one serve the
others. Rows are kept in `honesty.csv`; those that are there already are not run again. The tables
are printed, and written to `honesty.md`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import command_line, pages, rows
from benchmarks.honesty_posteriors import KINDS, ExactPosterior, posterior_of

HERE = Path(__file__).parent
NUM_DRAWS = 4_000

EVIDENCE_ERRORS, EVIDENCE_SLACK = 3.0, 0.03
"""A log evidence is right within so many stated errors, and so many nats besides."""
MEAN_WITHIN = 0.1
"""A mean is right within this many standard deviations of the posterior."""
SD_WITHIN = 0.1
"""A standard deviation is right within this share of it."""
CHANCE = 4.0
"""An error of a mean below so many Monte Carlo errors may be the luck of the draws."""


class Case(NamedTuple):
    """One run on one posterior."""

    number: int
    key: int


# --- one posterior --------------------------------------------------------------------------------


class Found(NamedTuple):
    """What the defaults gave, beside the truth; None where there was no result."""

    log_evidence: float | None = None
    log_evidence_error: float | None = None
    evidence_off: float | None = None
    """Estimate minus truth, in nats."""
    mean_off: float | None = None
    """The largest error of a mean, in standard deviations of the posterior."""
    sd_off: float | None = None
    """The largest relative error of a standard deviation, of those that can be checked; 0 if none
    can."""
    ess: float | None = None
    pareto_k: float | None = None
    num_charts: int | None = None
    right: bool = False
    missed: str = ""
    """What was not right, in words."""
    trusted: bool = False
    verdict: str = ""


def measure(case: Case) -> dict:
    """Run the defaults on one posterior, and compare with its answer; a failure has a row too."""
    exact = posterior_of(case.number)
    start = time.perf_counter()
    try:
        found, failed = _run(exact, case.key), ""
    except Exception as error:
        found, failed = Found(), f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return {
        **case._asdict(),
        "kind": exact.kind,
        "about": exact.about,
        "dim": exact.dim,
        "truth": exact.log_evidence,
        **found._asdict(),
        "seconds": time.perf_counter() - start,
        "failed": failed,
        **pages.commit_and_machine(),
    }


def _run(exact: ExactPosterior, key: int) -> Found:
    """Run the defaults, from the target to weighted draws."""
    import jax

    import numpyro_bridge as nb

    run_key, draw_key = jax.random.split(jax.random.fold_in(jax.random.key(key), exact.number))
    posterior = nb.BridgeSampler(exact.target, progress_bar=False).run(run_key, *exact.args)
    draws = posterior.sample(draw_key, NUM_DRAWS)
    mean_off, sd_off = moment_errors(exact, draws.sites, np.asarray(draws.log_weight, float))
    found = Found(
        log_evidence=float(draws.log_evidence),
        log_evidence_error=float(draws.log_evidence_error),
        evidence_off=float(draws.log_evidence) - exact.log_evidence,
        mean_off=mean_off,
        sd_off=sd_off,
        ess=float(draws.ess),
        pareto_k=float(draws.pareto_k),
        num_charts=int(getattr(getattr(posterior, "atlas", None), "num_charts", 1)),
        trusted=bool(draws.verdict.trustworthy),
        verdict=draws.verdict.text,
    )
    missed = what_is_wrong(found)
    return found._replace(right=not missed, missed="; ".join(missed))


def moment_errors(exact: ExactPosterior, sites, log_weight: np.ndarray) -> tuple[float, float]:
    """The largest errors of the weighted means and standard deviations, relative to the truth's.

    Args:
        exact: The posterior with its answer.
        sites: Draws by site, shape `(num, ...)`.
        log_weight: Their log weights, shape `(num,)`.
    """
    weight = np.exp(log_weight - np.max(log_weight))
    weight /= np.sum(weight)
    mean_off, sd_off = [], [0.0]
    for site, mean in exact.mean.items():
        # In units of the posterior: squares of very small or large numbers lose nothing then.
        value = (np.asarray(sites[site], float) - mean) / exact.sd[site]
        centre = weight @ value
        sd = np.sqrt(weight @ (value - centre) ** 2)
        mean_off.append(np.max(np.abs(centre)))
        sd_off.append(np.max(np.abs(sd - 1), where=exact.sd_is_checked[site], initial=0.0))
    return float(np.max(mean_off)), float(np.max(sd_off))


def what_is_wrong(found: Found) -> list[str]:
    """Every part of an answer that is not right, in words; what is not a number is not right."""
    off, error, mean_off, sd_off = (
        np.nan if value is None else value
        for value in (found.evidence_off, found.log_evidence_error, found.mean_off, found.sd_off)
    )
    right = {
        f"log evidence off by {off:.3f} ± {error:.3f}": abs(off)
        <= EVIDENCE_ERRORS * error + EVIDENCE_SLACK,
        f"a mean off by {mean_off:.2f} sd": mean_off <= MEAN_WITHIN,
        f"an sd off by {sd_off:.0%}": sd_off <= SD_WITHIN,
    }
    return [words for words, is_right in right.items() if not is_right]


# --- the page -------------------------------------------------------------------------------------


def is_true(row: dict, name: str) -> bool:
    """Read a truth value from a row of the file."""
    return {"True": True, "False": False}[row[name]]


def may_be_chance(row: dict) -> bool:
    """Whether a row misses nothing but means, by what few effective draws explain."""
    if not row["missed"] or any(
        not part.startswith("a mean") for part in row["missed"].split("; ")
    ):
        return False
    return float(row["mean_off"]) < CHANCE / np.sqrt(float(row["ess"]) * NUM_DRAWS)


def write_page(path: Path, found: list[dict]) -> None:
    """Write the tables, and print them."""
    liars = [row for row in found if is_true(row, "trusted") and not is_true(row, "right")]
    seconds = float(np.sum(rows.column(found, "seconds")))
    lines = [
        "# How often a trusted answer is right",
        "",
        f"`python -m benchmarks.honesty`, {len(found)} runs. An answer is *right* if its log "
        f"evidence is within {EVIDENCE_ERRORS:g} stated errors and {EVIDENCE_SLACK:g} nats, every "
        f"weighted mean within {MEAN_WITHIN:g} standard deviations, and every standard deviation "
        f"that {NUM_DRAWS:,} draws can show within {SD_WITHIN:.0%}. It is *trusted* if the verdict "
        f"has no doubt. {seconds:,.0f} seconds in all, compilation included.",
        "",
        pages.measured_on(found),
        "",
        *_two_by_two(found),
        "",
        *_by_kind(found),
        "",
        "## Wrong and trusted",
        "",
        *(map(_liar, liars) if liars else ["None."]),
    ]
    failed = [
        f"- {row['number']} ({row['kind']}): {row['failed']}" for row in found if row["failed"]
    ]
    lines += ["", "## Without a result", "", *failed] if failed else []
    pages.write(path, lines)


def _two_by_two(found: list[dict]) -> list[str]:
    """How many answers are right or wrong, and trusted or not; failures are counted apart."""
    finished = [row for row in found if not row["failed"]]
    table = []
    for words, trusted in (("trusted", "True"), ("not trusted", "False")):
        counts = [
            len(rows.select(finished, trusted=trusted, right=right)) for right in ("True", "False")
        ]
        table.append([words, *map(str, counts)])
    table.append(["no result", "", str(len(found) - len(finished))])
    return pages.table(["", "right", "wrong"], table)


def _by_kind(found: list[dict]) -> list[str]:
    """The same as shares of each kind, in the order in which the kinds are listed."""
    table = []
    for kind in KINDS:
        of_kind = rows.select(found, kind=kind)
        if not of_kind:
            continue
        pairs = (("True", "True"), ("True", "False"), ("False", "True"), ("False", "False"))
        counts = [len(rows.select(of_kind, trusted=t, right=r)) for t, r in pairs]
        cells = [f"{count / len(of_kind):.0%}" for count in counts]
        seconds = np.mean(rows.column(of_kind, "seconds"))
        table.append([kind, str(len(of_kind)), *cells, f"{seconds:.0f}"])
    columns = ["kind", "number", "trusted, right", "trusted, wrong", "not trusted, right"]
    return pages.table([*columns, "not trusted, wrong or failed", "seconds each"], table)


def _liar(row: dict) -> str:
    """A wrong answer that is trusted, with what is wrong in it."""
    chance = " (may be chance: few effective draws)" if may_be_chance(row) else ""
    ess, pareto_k, seconds = (float(row[name]) for name in ("ess", "pareto_k", "seconds"))
    return (
        f"- {row['number']}, key {row['key']}: {row['kind']} in {row['dim']} dimensions "
        f"({row['about']}): {row['missed']}{chance}. ESS {ess:.2f}, k-hat {pareto_k:.2f}, "
        f"{row['num_charts']} charts, {seconds:.0f} seconds."
    )


# --- the command line -----------------------------------------------------------------------------


MOST_IN_PROCESS = 12
"""Programs compiled for more posteriors would not fit in one process."""


def _numbers(text: str) -> Sequence[int]:
    """A range such as "0:200", or single numbers such as "3,17"."""
    first, colon, end = text.partition(":")
    try:
        if "," in text:
            return [int(number) for number in text.split(",") if number]
        return range(int(first or 0), int(end) if colon else int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected such as 0:200 or 3,17, got {text!r}") from None


def _in_processes(cases: list[Case], output: Path) -> None:
    """Run cases in processes of their own, those together that have programs in common."""

    def alike(case: Case):
        exact = posterior_of(case.number)
        return case.key, exact.dim, exact.kind

    ordered = sorted(cases, key=alike)
    for first in range(0, len(ordered), MOST_IN_PROCESS):
        some = ordered[first : first + MOST_IN_PROCESS]
        for key in sorted({case.key for case in some}):
            numbers = ",".join(str(case.number) for case in some if case.key == key)
            command = [sys.executable, "-m", "benchmarks.honesty", "--numbers", f"{numbers},"]
            command += ["--keys", str(key), "--output", str(output)]
            subprocess.run(command, check=True)


def main() -> None:
    """Run what is missing, then print and write the tables; or print one row."""
    parser = command_line.parser(__doc__, data=False)
    parser.add_argument(
        "--numbers", type=_numbers, default=range(200), help="which posteriors, such as 0:200"
    )
    command_line.add_keys(parser, default=(0,))
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    parser.add_argument("--one", type=int, metavar="NUMBER", help="print one row as JSON")
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    if options.one is not None:
        for key in options.keys:
            print(json.dumps(measure(Case(options.one, key)), indent=1))
        return
    results = options.output / "honesty.csv"
    if options.fresh:
        results.unlink(missing_ok=True)
    cases = [Case(number, key) for number in options.numbers for key in options.keys]
    shown = ("evidence_off", "log_evidence_error", "mean_off", "ess", "right", "trusted", "seconds")
    every = rows.missing(cases, results)
    print(f"{len(cases)} runs, of which {len(cases) - len(every)} are there already", flush=True)
    if len(every) > MOST_IN_PROCESS:
        _in_processes(every, options.output)
        every = []
    for case in every:
        row = measure(case)
        rows.append(results, row)
        numbers = (f"{name} {row[name]:.3g}" for name in shown if row[name] is not None)
        print(*case, row["kind"], *numbers, row["missed"], row["failed"], flush=True)
    wanted = {(str(case.number), str(case.key)) for case in cases}
    found = [row for row in rows.read(results) if (row["number"], row["key"]) in wanted]
    write_page(options.output / "honesty.md", found)


if __name__ == "__main__":
    main()
