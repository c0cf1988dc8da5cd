"""The study of Sanokowski et al. (2025): losses over samplers, with learned and with fixed noise.

    python -m benchmarks.losses --data FOLDER [--preset small | full]

Every combination has the same budget of transitions, and rows that are in `losses.csv` already are
kept, so an interrupted study goes on where it was. The table is written to `losses.md`, the plot to
`losses.png`.
"""

import argparse
import csv
import functools
import itertools
import platform
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

import numpyro_bridge as nb
from benchmarks import densities, targets

HERE = Path(__file__).parent
RESULTS, TABLE, PLOT = HERE / "losses.csv", HERE / "losses.md", HERE / "losses.png"

PROCESSES = {"CMCD": nb.CMCD, "DBS": nb.DBS}
OBJECTIVES = {
    "reverse_kl": nb.reverse_kl,
    "reverse_kl_ld": nb.reverse_kl_ld,
    "log_variance": nb.log_variance,
}
NUM_DRAWS = 8_000


class Case(NamedTuple):
    """One row of the study."""

    target: str
    process: str
    objective: str
    noise: str
    standardised: str
    key: int


class Preset(NamedTuple):
    """How much is run: which cases, and the budget of each."""

    targets: tuple[str, ...]
    standardised: tuple[str, ...]
    keys: tuple[int, ...]
    num_steps: int
    num_trajectories: int
    num_iterations: int

    def cases(self) -> Iterator[Case]:
        """All combinations, in the order in which they are run."""
        noise = ("learned", "fixed")
        parts = (self.targets, PROCESSES, OBJECTIVES, noise, self.standardised, self.keys)
        return itertools.starmap(Case, itertools.product(*parts))

    @property
    def num_transitions(self) -> int:
        """Transitions that training a case may evaluate."""
        return self.num_steps * self.num_trajectories * self.num_iterations


SMALL = ("seeds", "brownian", "funnel", "double_wells")
ALL = (*targets.NAMES[1:], *(name for name in densities.LOADERS if name != "cox_40"))
PRESETS = {
    "small": Preset(SMALL, ("yes",), (0,), 32, 128, 600),
    "raw": Preset(("seeds", "funnel"), ("no",), (0,), 32, 128, 600),
    "full": Preset(ALL, ("yes", "no"), (0, 1, 2), 96, 256, 2_000),
}


def run_case(case: Case, preset: Preset, data: Path) -> dict:
    """Train one combination and measure it."""
    model, kwargs, dim, log_evidence = _problem(case.target, data)
    make = partial(PROCESSES[case.process], num_steps=preset.num_steps)
    sampler = nb.BridgeSampler(
        model,
        process=make,
        objective=OBJECTIVES[case.objective],
        standardise=partial(_standardised, case, data),
        num_iterations=preset.num_iterations,
        num_trajectories=preset.num_trajectories,
        tolerance=0.0,
        trainable=None if case.noise == "learned" else _all_but_noise(make, dim),
        progress_bar=False,
    )
    start = time.perf_counter()
    posterior = sampler.run(jax.random.key(case.key), **kwargs)
    seconds = time.perf_counter() - start
    draws = posterior.sample(jax.random.key(1_000 + case.key), num_samples=NUM_DRAWS)
    return {
        **case._asdict(),
        "gap": log_evidence - draws.elbo,
        "evidence_error": draws.log_evidence - log_evidence,
        "ess": draws.ess,
        "pareto_k": draws.pareto_k,
        "skipped": posterior.info["num_skipped_updates"],
        "seconds": seconds,
        "transitions": preset.num_transitions,
        "commit": _commit(),
        "machine": jax.devices()[0].device_kind + " " + platform.machine(),
    }


@functools.cache
def _problem(name: str, data: Path):
    if name in densities.LOADERS:
        density = densities.LOADERS[name](data)
        return density.target, {}, density.target.dim, density.log_evidence
    benchmark = targets.load(name, data)
    target = nb.target_from_model(jax.random.key(0), benchmark.model, **benchmark.kwargs)
    return benchmark.model, benchmark.kwargs, target.dim, benchmark.reference.log_evidence


_standardisations: dict[tuple[str, int], nb.Standardisation] = {}


def _standardised(case: Case, data: Path, rng_key, target):
    """One fit for all combinations on a target, or none."""
    if case.standardised == "no":
        return nb.no_standardisation(rng_key, target)
    if (case.target, case.key) not in _standardisations:
        _standardisations[case.target, case.key] = nb.standardise(rng_key, target)
    return _standardisations[case.target, case.key]


def _all_but_noise(make, dim: int):
    """A filter: every array but the diffusion coefficients."""
    process = make(jax.random.key(0), dim)
    everything = jax.tree.map(eqx.is_inexact_array, process)
    return eqx.tree_at(lambda p: p.log_diffusion, everything, False)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True).stdout.strip()


def read_rows() -> list[dict]:
    """What has been run so far."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def append_row(row: dict) -> None:
    """Keep one result."""
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def write_table(rows: list[dict]) -> None:
    """Gaps to the log evidence: a row for each problem, a column for each loss."""
    columns = [(noise, objective) for noise in ("learned", "fixed") for objective in OBJECTIVES]
    lines = [
        "# Losses over samplers",
        "",
        "Gap between log evidence and ELBO in nats, smaller is better; in brackets the ESS of the "
        "draws. Mean over keys. `python -m benchmarks.losses --data FOLDER`.",
        "",
        "| target | standardised | sampler | transitions | "
        + " | ".join(f"{objective}, noise {noise}" for noise, objective in columns)
        + " |",
        "|" + "---|" * (4 + len(columns)),
    ]
    for problem in dict.fromkeys(_problem_of(row) for row in rows):
        cells = []
        for noise, objective in columns:
            found = [
                row
                for row in rows
                if _problem_of(row) == problem
                and (row["noise"], row["objective"]) == (noise, objective)
            ]
            gap = np.mean([float(row["gap"]) for row in found]) if found else np.nan
            ess = np.mean([float(row["ess"]) for row in found]) if found else np.nan
            cells.append(f"{gap:.3f} ({ess:.2f})" if found else "")
        lines.append("| " + " | ".join([*problem, *cells]) + " |")
    TABLE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _problem_of(row: dict) -> tuple[str, str, str, str]:
    return row["target"], row["standardised"], row["process"], f"{int(row['transitions']):.1e}"


def write_plot(rows: list[dict]) -> None:
    """The gaps on a logarithmic axis, one panel a target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["target"] for row in rows))
    figure, axes = pyplot.subplots(
        1, len(names), figsize=(3 * len(names), 3.5), squeeze=False, layout="constrained"
    )
    groups = list(itertools.product(PROCESSES, ("learned", "fixed")))
    for axis, name in zip(axes[0], names, strict=True):
        for place, objective in enumerate(OBJECTIVES):
            for group, (process, noise) in enumerate(groups):
                gaps = [
                    float(row["gap"])
                    for row in rows
                    if (row["target"], row["standardised"]) == (name, "yes")
                    and (row["process"], row["noise"]) == (process, noise)
                    and row["objective"] == objective
                ]
                label = objective if group == 0 else None
                at = np.full(len(gaps), group + 0.2 * (place - 1))
                axis.plot(at, np.maximum(gaps, 1e-3), "o", color=f"C{place}", label=label)
        axis.set(title=name, yscale="log")
        axis.set_xticks(range(len(groups)), [f"{p}\n{n}" for p, n in groups], fontsize=8)
    axes[0, 0].set_ylabel("log Z - ELBO [nats]")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(PLOT, dpi=120)


def main() -> None:
    """Run what is missing of a preset, then write table and plot of all rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark data")
    parser.add_argument("--preset", choices=PRESETS, default="small")
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    key_of = [*Case._fields, "transitions"]
    done = {tuple(row[name] for name in key_of) for row in read_rows()}
    for case in preset.cases():
        if (*map(str, case), str(preset.num_transitions)) in done:
            continue
        row = run_case(case, preset, options.data)
        append_row(row)
        print(*case, f"gap {row['gap']:.3f}, ESS {row['ess']:.2f}, {row['seconds']:.0f} s")
    write_table(read_rows())
    write_plot(read_rows())


if __name__ == "__main__":
    main()
