"""Seconds from a cold start to 4,000 draws, beside NUTS and a normal variational fit.

    python -m benchmarks.cold --data FOLDER

Every row is a fresh process: with nothing compiled, or, for the condition `cached`, with what an
earlier process left in JAX's persistent cache. In the same process a second data set of the same
shapes follows. Rows are kept in `cold.csv`; those that are there are not run again. The table is
written to `cold.md`.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cold_targets, command_line, pages, rows

HERE = Path(__file__).parent
NUM_SAMPLES = 4_000
NUM_SVI_STEPS = 10_000
CONDITIONS = ("cold", "cached")


class Case(NamedTuple):
    """One process."""

    target: str
    sampler: str
    condition: str
    key: int


class Run(NamedTuple):
    """What one run of a sampler gave besides its seconds; None where it has no such number."""

    gradient_evaluations: int | None = None
    elbo: float | None = None
    log_evidence: float | None = None
    stages: dict[str, float] | None = None


# --- the samplers ---------------------------------------------------------------------------------


def by_bridge(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Run:
    """The defaults, with the seconds of each stage."""
    import jax

    import numpyro_bridge as nb

    stages: dict[str, float] = {}

    def timed(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **settings: Any) -> Any:
            start = time.perf_counter()
            result = stage(*args, **settings)
            stages[name] = time.perf_counter() - start
            return result

        return run

    explore = timed("explore", nb.atlas.explore)
    sampler = nb.BridgeSampler(model, explore=explore, progress_bar=False)
    start = time.perf_counter()
    posterior = sampler.run(jax.random.key(key), **kwargs)
    ran = time.perf_counter()
    draws = posterior.sample(jax.random.key(1_000 + key), num_samples=NUM_SAMPLES)
    _ = draws.verdict
    seconds = posterior.report.seconds
    stages["train"] = (seconds.train or 0.0) + (seconds.compile or 0.0)
    stages["chart"] = ran - start - sum(stages.values())
    stages["draw"] = time.perf_counter() - ran
    before = posterior.report.num_gradient_evaluations
    return Run(before, draws.elbo, draws.log_evidence, stages)


def by_nuts(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Run:
    """NumPyro's NUTS: four vectorised chains of 1,000 draws after 1,000."""
    import jax

    from benchmarks import nuts

    mcmc = nuts.four_chains(model)
    mcmc.run(jax.random.key(key), extra_fields=("num_steps",), **kwargs)
    jax.block_until_ready(mcmc.get_samples())
    # The warm-up is not recorded, and takes at least as many steps as the draws.
    return Run(2 * int(np.sum(np.asarray(mcmc.get_extra_fields()["num_steps"]))))


def by_svi(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Run:
    """NumPyro's SVI with a multivariate normal guide, and draws of the guide."""
    import jax
    import numpyro
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoMultivariateNormal

    guide = AutoMultivariateNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(0.01), Trace_ELBO())
    result = svi.run(jax.random.key(key), NUM_SVI_STEPS, progress_bar=False, **kwargs)
    shape = (NUM_SAMPLES,)
    draws = guide.sample_posterior(jax.random.key(1), result.params, sample_shape=shape)
    jax.block_until_ready(draws)
    return Run(NUM_SVI_STEPS)


SAMPLERS = {"bridge": by_bridge, "nuts": by_nuts, "svi": by_svi}


# --- one process ----------------------------------------------------------------------------------


def measure(case: Case, data: Path) -> dict:
    """The row of a case, in this process."""
    import jax
    from jax import monitoring

    benchmark = cold_targets.load(case.target, data)
    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration_secs)

    jax.clear_caches()  # of what the loading of the target compiled
    monitoring.register_event_duration_secs_listener(listen)
    sample = SAMPLERS[case.sampler]
    first, seconds = _timed(sample, benchmark.model, benchmark.kwargs, case.key)
    num_programs, compile_seconds = len(compiled), sum(compiled)
    # Rows in another order: other values for the same programs, which no model refuses.
    others = {
        name: np.roll(value, 1, axis=0) if np.ndim(value) else value
        for name, value in benchmark.kwargs.items()
    }
    _, seconds_again = _timed(sample, benchmark.model, others, case.key)
    stages = {"explore": None, "chart": None, "train": None, "draw": None} | (first.stages or {})
    return {
        **case._asdict(),
        "seconds": seconds,
        **stages,
        "programs": num_programs,
        "compile_seconds": compile_seconds,
        "seconds_again": seconds_again,
        "programs_again": len(compiled) - num_programs,
        "gradient_evaluations": first.gradient_evaluations,
        "elbo": first.elbo,
        "log_evidence": first.log_evidence,
        "log_evidence_reference": benchmark.reference.log_evidence,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        **pages.commit_and_machine(),
    }


def _timed(sample, model, kwargs, key: int) -> tuple[Run, float]:
    start = time.perf_counter()
    run = sample(model, kwargs, key)
    return run, time.perf_counter() - start


def in_a_fresh_process(case: Case, data: Path) -> dict:
    """The row of a case, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cold", "--data", str(data), "--one"]
    command += list(map(str, case))

    def row(environment: dict[str, str]) -> dict:
        output = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        return json.loads(output.stdout.splitlines()[-1]) | {"import": _import_seconds(case)}

    if case.condition == "cold":
        return row({"JAX_ENABLE_COMPILATION_CACHE": "0"})
    with tempfile.TemporaryDirectory() as folder:
        cache = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        row(cache)
        return row(cache)


def _import_seconds(case: Case) -> float:
    """Seconds of the import that the sampler needs, in a process of its own."""
    package = "numpyro_bridge" if case.sampler == "bridge" else "numpyro.infer"
    code = f"import time; start = time.perf_counter(); import {package}; "
    command = [sys.executable, "-c", code + "print(time.perf_counter() - start)"]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# --- the page -------------------------------------------------------------------------------------

COLUMNS = [
    "target",
    "key",
    "seconds",
    "import",
    "explore, chart, train, draw",
    "programs",
    "compiling",
    "second data",
    "cached",
    "million gradients",
    "GB",
    "ELBO",
    "NUTS, SVI: seconds",
    "over NUTS: cold",
    "second data",
    "cached",
    "gradients",
]


def write_page(path: Path, found: list[dict]) -> None:
    """Write the table, a row for each target, with the ratios to NUTS in the same condition."""
    bridges = rows.select(found, sampler="bridge", condition="cold")
    lines = [
        "# Seconds from a cold start",
        "",
        f"`python -m benchmarks.cold --data FOLDER`: seconds to {NUM_SAMPLES:,} draws in a fresh "
        "process, the import of the packages left out. Second data set: the same model, the rows "
        "in another order, in the same process. Cached: a new process with the persistent "
        "cache of an earlier one. NUTS: four vectorised chains of 1,000 draws after 1,000; its "
        "gradients are twice those of its draws, since the warm-up is not recorded. SVI: "
        f"`AutoMultivariateNormal`, {NUM_SVI_STEPS:,} steps.",
        pages.measured_on(found),
        "",
        *pages.table(COLUMNS, (_cells(row, found) for row in bridges)),
        "",
        *_medians(bridges, found),
    ]
    pages.write(path, lines)


def _peer(row: dict, found: list[dict], sampler: str, condition: str) -> dict | None:
    same = rows.select(
        found, target=row["target"], key=row["key"], sampler=sampler, condition=condition
    )
    return same[0] if same else None


def _ratios(row: dict, found: list[dict]) -> list[float | None]:
    """Over NUTS: cold seconds, those of a second data set, those with a cache, gradients."""
    chains = _peer(row, found, "nuts", "cold")
    bridge_cached, chains_cached = (
        _peer(row, found, sampler, "cached") for sampler in ("bridge", "nuts")
    )

    def ratio(one: dict | None, other: dict | None, name: str) -> float | None:
        return None if one is None or other is None else float(one[name]) / float(other[name])

    return [
        ratio(row, chains, "seconds"),
        ratio(row, chains, "seconds_again"),
        ratio(bridge_cached, chains_cached, "seconds"),
        ratio(row, chains, "gradient_evaluations"),
    ]


def _cells(row: dict, found: list[dict]) -> list[str]:
    def number(one: dict | None, name: str, digits: int = 1) -> str:
        return f"{float(one[name]):.{digits}f}" if one and one[name] else ""

    peers = [number(_peer(row, found, sampler, "cold"), "seconds") for sampler in ("nuts", "svi")]
    stages = [number(row, name) for name in ("explore", "chart", "train", "draw")]
    return [
        row["target"],
        row["key"],
        number(row, "seconds"),
        number(row, "import"),
        ", ".join(stages),
        row["programs"],
        number(row, "compile_seconds"),
        number(row, "seconds_again"),
        number(_peer(row, found, "bridge", "cached"), "seconds"),
        f"{float(row['gradient_evaluations']) / 1e6:.2f}",
        number(row, "peak_gigabytes"),
        number(row, "elbo", 2),
        ", ".join(peers),
        *("" if ratio is None else f"{ratio:.2f}" for ratio in _ratios(row, found)),
    ]


def _medians(bridges: list[dict], found: list[dict]) -> list[str]:
    """A line with the median and the largest of each ratio."""
    names = ("cold", "second data set", "cached", "gradients")
    columns = zip(*(_ratios(row, found) for row in bridges), strict=True)
    parts = []
    for name, column in zip(names, columns, strict=True):
        known = [value for value in column if value is not None]
        if known:
            parts.append(f"{name} {np.median(known):.2f} (largest {np.max(known):.2f})")
    return [f"Medians over NUTS: {'; '.join(parts)}."] if parts else []


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = command_line.parser(__doc__)
    command_line.add_targets(parser, cold_targets.NAMES)
    command_line.add_keys(parser, default=(0,))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    if options.one:
        target, sampler, condition, key = options.one
        print(json.dumps(measure(Case(target, sampler, condition, int(key)), options.data)))
        return
    choices = itertools.product(options.targets, options.samplers, options.conditions, options.keys)
    found = rows.complete(
        options.output / "cold.csv",
        itertools.starmap(Case, choices),
        partial(in_a_fresh_process, data=options.data),
        shown=("seconds", "programs", "seconds_again"),
    )
    write_page(options.output / "cold.md", found)


if __name__ == "__main__":
    main()
