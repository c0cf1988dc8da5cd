"""The log evidence from a cold start, beside other samplers that estimate it.

    python -m pip install -e ".[evidence]"
    python -m benchmarks.evidence --data FOLDER [--targets "normals_*"] [--samplers bridge jaxns]

Every row is a fresh process without anything compiled; its seconds run from the model to weighted
draws, imports left out. All samplers are given the same NumPyro model: a plain density has a
uniform prior on a box that leaves at least ten standard deviations around each mode. Rows are kept
in `evidence.csv`; those that are there are not run again. The table is written to `evidence.md`.
"""

import argparse
import itertools
import json
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import command_line, pages, rows
from benchmarks.fresh_process import row_or_reason

HERE = Path(__file__).parent
NORMALS = tuple(f"normals_{k}_{d}d" for k in (2, 4, 8) for d in (2, 5, 10, 20))
NEEDLE = "needle_12d"
"""What is hardest: a mode that is far narrower than the other, in twelve dimensions."""
NAMES = ("seeds", "sonar", *NORMALS, "gmm40_2d", "gmm40_50d", "lines_3", "lines_4", NEEDLE)
SAMPLERS = ("bridge", "tempered_smc", "nested_slices", "jaxns", "pocomc", "dynesty")
RIGHT = 0.05
"""A log evidence is right within so many nats."""


class Case(NamedTuple):
    """One process."""

    target: str
    sampler: str
    key: int


# --- one process ----------------------------------------------------------------------------------


def load(name: str, data: Path) -> tuple[Any, dict[str, Any], float, Any]:
    """A model with a proper prior, its data, its log evidence and its modes where it has several.

    Args:
        name: One of `NAMES`.
        data: The folder of the benchmark data.
    """
    from benchmarks import atlas_densities, atlas_targets, targets

    if name == NEEDLE:
        density = atlas_densities.density_of(atlas_densities.needle(12))
        log_volume = 12 * float(np.log(30.0))
        return _in_a_box(density.target, 15.0), {}, -log_volume, density.modes
    if name in targets.NAMES:
        known = targets.load(name, data)
        return known.model, known.kwargs, known.reference.log_evidence, None
    known = atlas_targets.load(name, data)
    assert known.log_evidence is not None  # of every target here it is known
    if callable(known.subject):
        return known.subject, known.kwargs, known.log_evidence, known.modes
    half = _half_width(name, data)
    log_volume = known.subject.dim * float(np.log(2 * half))
    model = _in_a_box(known.subject, half)
    return model, {}, known.log_evidence - log_volume, known.modes


def _half_width(name: str, data: Path) -> float:
    """Half the side of a box around zero that holds all but nothing of the density."""
    from benchmarks import atlas_densities, densities

    if name.startswith("gmm40"):
        centres = densities.LOADERS[name](data).modes
        return float(np.ceil(np.max(np.abs(centres)) + 10.0))
    num, dim = (int(part.rstrip("d")) for part in name.split("_")[1:])
    mixture = atlas_densities.normal_mixture(num, dim)
    scale = np.sqrt(np.sum(np.square(mixture.factors), axis=-1))
    return float(np.ceil(np.max(np.abs(mixture.means) + 10.0 * scale)))


def _in_a_box(target: Any, half: float):
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def model():
        box = dist.Uniform(-half, half).expand([target.dim]).to_event(1)
        position = jnp.asarray(numpyro.sample("x", box))
        numpyro.factor("density", target.log_density(position))

    return model


def measure(case: Case, data: Path) -> dict:
    """The row of a case, in this process."""
    import jax

    from benchmarks import atlas_measure
    from benchmarks.evidence_peers import PEERS

    model, kwargs, reference, modes = load(case.target, data)
    jax.clear_caches()  # of what the loading of the target compiled
    start = time.perf_counter()
    found = PEERS[case.sampler](model, kwargs, case.key)
    seconds = time.perf_counter() - start
    if not np.isfinite(found.log_evidence):
        raise ValueError(f"the log evidence is {found.log_evidence}")
    row = {
        **case._asdict(),
        "reference": reference,
        "log_evidence": found.log_evidence,
        "log_evidence_error": found.error,
        "off": found.log_evidence - reference,
        "num_modes": None,
        "num_found": None,
        "masses_off": None,
        "seconds": seconds,
    }
    if modes is not None:
        shares = atlas_measure.mode_shares(modes, found.sites, found.log_weight)
        row["num_modes"] = len(modes.masses)
        row["num_found"] = int(np.sum(shares >= atlas_measure.FOUND * modes.masses))
        row["masses_off"] = atlas_measure.total_variation(shares, modes.masses)
    return {**row, "failed": "", **pages.commit_and_machine()}


def in_a_fresh_process(case: Case, data: Path, timeout: float) -> dict:
    """The row of a case, measured in a process of its own; a failure has one too."""
    command = [sys.executable, "-m", "benchmarks.evidence", "--data", str(data), "--one"]
    command += list(map(str, case))
    found = row_or_reason(command, timeout, {"JAX_ENABLE_COMPILATION_CACHE": "0"})
    if isinstance(found, dict):
        return found
    numbers = ("reference", "log_evidence", "log_evidence_error", "off")
    numbers += ("num_modes", "num_found", "masses_off", "seconds")
    nothing = dict.fromkeys(numbers)
    return {**case._asdict(), **nothing, "failed": found, **pages.commit_and_machine()}


# --- the page -------------------------------------------------------------------------------------


def write_page(path: Path, found: list[dict]) -> None:
    """Write the table of all rows, and print it."""
    found = sorted(
        found,
        key=lambda row: (
            NAMES.index(row["target"]),
            int(row["key"]),
            SAMPLERS.index(row["sampler"]),
        ),
    )
    lines = [
        "# Log evidence beside other samplers, from a cold start",
        "",
        "`python -m benchmarks.evidence --data FOLDER`. Each row is a process of its own with "
        "nothing compiled; seconds run from the model to weighted draws. *Off*: estimate less "
        f"reference, in nats; right within {RIGHT:g}. *Modes*: those with at least a tenth of "
        "their mass. *Masses off*: total variation. Plain densities have a uniform prior on a box. "
        "The settings are in `benchmarks/evidence_peers.py`.",
        "",
        pages.measured_on(found),
        "",
    ]
    columns = ["target", "key", "sampler", "off", "stated error", "modes", "masses off", "seconds"]
    lines += pages.table(columns, map(_cells, found))
    pages.write(path, [*lines, "", *_against_the_fastest(found)])


def _cells(row: dict) -> list[str]:
    modes = f"{row['num_found']} of {row['num_modes']}" if row["num_modes"] else ""
    return [
        row["target"],
        row["key"],
        row["sampler"],
        row["failed"] or rows.number(row, "off", ".3f"),
        rows.number(row, "log_evidence_error", ".3f"),
        modes,
        rows.number(row, "masses_off", ".3f"),
        rows.number(row, "seconds", ".0f"),
    ]


def _against_the_fastest(found: list[dict]) -> list[str]:
    """For each target, the seconds of the bridge over those of the fastest peer that is right."""
    lines = [
        "## Seconds over those of the fastest peer that is right",
        "",
        *pages.table(["target", "key", "bridge is right", "fastest peer", "ratio"], []),
    ]
    for target, key in dict.fromkeys((row["target"], row["key"]) for row in found):
        here = rows.select(found, target=target, key=key)
        right = [row for row in here if row["off"] and abs(float(row["off"])) <= RIGHT]
        peers = [row for row in right if row["sampler"] != "bridge"]
        bridge = rows.select(here, sampler="bridge")
        if not bridge or len(here) == 1:
            continue
        name, ratio = "none is right", ""
        if peers:
            fastest = min(peers, key=lambda row: float(row["seconds"]))
            name = f"{fastest['sampler']}, {float(fastest['seconds']):.0f} s"
            if bridge[0]["seconds"]:
                ratio = f"{float(bridge[0]['seconds']) / float(fastest['seconds']):.2f}"
        is_right = "yes" if bridge[0] in right else "no"
        lines.append(pages.line([target, key, is_right, name, ratio]))
    return lines


# --- the command line -----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser(__doc__)
    parser.add_argument("--targets", nargs="+", default=["*"], help="names or patterns")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    command_line.add_keys(parser, default=(0,))
    parser.add_argument("--timeout", type=float, default=900.0, help="most seconds of one run")
    parser.add_argument("--one", nargs=3, metavar=("TARGET", "SAMPLER", "KEY"))
    command_line.add_output(parser, HERE)
    return parser


def main() -> None:
    """Run what is missing, then print and write the table."""
    options = _parser().parse_args()
    if options.one:
        target, sampler, key = options.one
        print(json.dumps(measure(Case(target, sampler, int(key)), options.data)), flush=True)
        return
    names = [n for n in NAMES if any(fnmatch(n, pattern) for pattern in options.targets)]
    if not names:
        raise SystemExit(f"no target matches; choose from {', '.join(NAMES)}")
    cases = itertools.starmap(Case, itertools.product(names, options.samplers, options.keys))
    found = rows.complete(
        options.output / "evidence.csv",
        cases,
        lambda case: in_a_fresh_process(case, options.data, options.timeout),
        shown=("off", "log_evidence_error", "masses_off", "seconds"),
    )
    write_page(options.output / "evidence.md", found)


if __name__ == "__main__":
    main()
