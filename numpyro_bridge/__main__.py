"""`python -m numpyro_bridge` samples two published models with a bridge and with NUTS."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from numpyro_bridge.atlas.fit_normal import laplace, prior_moments
from numpyro_bridge.atlas.standardisation import standardise
from numpyro_bridge.compare import Comparison, compare_with_nuts
from numpyro_bridge.infer import BridgeSampler
from numpyro_bridge.processes import CMCD, ScoreInformedControl

Numbers = np.ndarray | jax.Array


class Demo(NamedTuple):
    """A model, its data, and labels for its dimensions."""

    title: str
    model: Callable[..., Any]
    data: dict[str, np.ndarray]
    coords: dict[str, list[Any]]


class Settings(NamedTuple):
    """Settings of the sampler and of the comparison; empty for the defaults of the package."""

    sampler: dict[str, Any] = {}
    comparison: dict[str, Any] = {}


QUICK = Settings(
    sampler=dict(
        process=partial(CMCD, num_steps=8, control=partial(ScoreInformedControl, width=16)),
        standardise=partial(
            standardise, candidates=(prior_moments, laplace), num_starts=2, nonlinear=False
        ),
        num_iterations=300,
        num_trajectories=64,
    ),
    comparison=dict(num_samples=1_000, num_warmup=200, nuts_samples=200, num_chains=2),
)
"""Enough to see that everything runs, and too little to judge the sampler by."""


def eight_schools(effect_error: Numbers, effect: Numbers | None = None) -> None:
    """Effects of coaching in eight schools, non-centred. Rubin (1981)."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(effect_error)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("obs", dist.Normal(theta, effect_error), obs=effect)


def seeds(
    is_other_seed: Numbers,
    is_other_root: Numbers,
    num_seeds: Numbers,
    num_germinated: Numbers | None = None,
) -> None:
    """Germination on 21 plates: logistic regression with a random effect each. Crowder (1978)."""
    tau = numpyro.sample("tau", dist.Gamma(0.01, 0.01))
    a_0 = numpyro.sample("a_0", dist.Normal(0, 10))
    a_1 = numpyro.sample("a_1", dist.Normal(0, 10))
    a_2 = numpyro.sample("a_2", dist.Normal(0, 10))
    a_12 = numpyro.sample("a_12", dist.Normal(0, 10))
    with numpyro.plate("plate", len(num_seeds)):
        b = numpyro.sample("b", dist.Normal(0, 1 / jnp.sqrt(tau)))
        interaction = a_12 * is_other_seed * is_other_root
        logits = a_0 + a_1 * is_other_seed + a_2 * is_other_root + interaction + b
        numpyro.sample("germinated", dist.Binomial(num_seeds, logits=logits), obs=num_germinated)


def _floats(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, np.float32)


DEMOS = {
    "eight_schools": Demo(
        "Eight schools (Rubin 1981), 10 unconstrained dimensions",
        eight_schools,
        {
            "effect_error": _floats(15, 10, 16, 11, 9, 11, 10, 18),
            "effect": _floats(28, 8, -3, 7, -1, 1, 18, 12),
        },
        {"school": list("ABCDEFGH")},
    ),
    "seeds": Demo(
        "Seeds (Crowder 1978), 26 unconstrained dimensions",
        seeds,
        {
            "is_other_seed": np.repeat(_floats(0, 1), (11, 10)),
            "is_other_root": np.repeat(_floats(0, 1, 0, 1), (5, 6, 5, 5)),
            "num_seeds": _floats(
                *(39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13),
                *(16, 30, 28, 45, 4, 12, 41, 30, 51, 7),
            ),
            "num_germinated": _floats(
                *(10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10),
                *(8, 10, 8, 23, 0, 3, 22, 15, 32, 3),
            ),
        },
        {"plate": list(range(1, 22))},
    ),
}


def run_demo(demo: Demo, rng_key: jax.Array, settings: Settings) -> Comparison:
    """Train a bridge on one model, run NUTS on it, and print the comparison."""
    print(f"\n=== {demo.title} ===\n")
    train_key, compare_key = jax.random.split(rng_key)
    sampler = BridgeSampler(demo.model, **settings.sampler)
    posterior = sampler.run(train_key, **demo.data)
    comparison = compare_with_nuts(
        posterior, compare_key, coords=demo.coords, **settings.comparison
    )
    comparison.print()
    return comparison


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write plots and draws to a folder, and return the files."""
    from matplotlib import pyplot

    figures = comparison.plot(folder)
    for figure in figures.values():
        pyplot.close(figure)
    files = [folder / f"{name}.png" for name in figures]
    for name, inference_data in (("bridge", comparison.bridge), ("nuts", comparison.nuts)):
        files.append(folder / f"{name}.nc")
        inference_data.to_netcdf(str(files[-1]))
    return files


def main(arguments: list[str] | None = None) -> None:
    """Run the demonstration; see `python -m numpyro_bridge --help`."""
    parser = argparse.ArgumentParser(
        prog="python -m numpyro_bridge",
        description="Sample two published models with a diffusion bridge and with NUTS, print "
        "both side by side, and write plots and netCDF files. One to two minutes on two cores.",
    )
    parser.add_argument(
        "models", nargs="*", default=list(DEMOS), help=f"some of {', '.join(DEMOS)}; default: all"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("numpyro_bridge_demo"), help="folder for the files"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument(
        "--quick", action="store_true", help="only see that it runs: hardly any training"
    )
    parser.add_argument("--silent", action="store_true", help="show no progress")
    options = parser.parse_args(arguments)
    unknown = sorted({*options.models} - {*DEMOS})
    if unknown:
        parser.error(f"there is no model {', '.join(unknown)}, but {', '.join(DEMOS)}")
    if len(options.models) > 1:
        sys.exit(_run_side_by_side(options))
    (name,) = options.models
    _run_and_write(name, options)


def _run_and_write(name: str, options: argparse.Namespace) -> None:
    """Run one model in this process."""
    # Plots are written and never shown, so that no window system is needed.
    import matplotlib

    matplotlib.use("Agg")
    settings = QUICK if options.quick else Settings()
    if options.silent:
        silent = {"progress_bar": False}
        settings = Settings(settings.sampler | silent, settings.comparison | silent)
    keys = dict(zip(DEMOS, jax.random.split(jax.random.key(options.seed), len(DEMOS)), strict=True))
    comparison = run_demo(DEMOS[name], keys[name], settings)
    print("Wrote:")
    for file in write(comparison, options.output / name):
        print(f"  {file}")


def _run_side_by_side(options: argparse.Namespace) -> int:
    """Run each model in a process of its own, all at the same time, and print one after the other.

    Compiling keeps hardly more than one core busy, and is most of the work. The progress of the
    first model is shown.
    """
    processes = []
    for name in options.models:
        first = not processes
        command = [sys.executable, "-m", "numpyro_bridge", name]
        command += ["--output", str(options.output), "--seed", str(options.seed)]
        command += ["--quick"] * options.quick + ["--silent"] * (options.silent or not first)
        stdout = None if first else subprocess.PIPE
        processes.append(subprocess.Popen(command, stdout=stdout, text=True, env=_own_cache(name)))
    try:
        for process in processes:
            printed, _ = process.communicate()
            print(printed or "", end="", flush=True)
    finally:
        for process in processes:
            process.terminate()
    return max(abs(process.returncode) for process in processes)


def _own_cache(name: str) -> dict[str, str]:
    """Variables of a process that shares no cache: JAX writes its files in place."""
    variables = dict(os.environ)
    if cache := variables.get("JAX_COMPILATION_CACHE_DIR"):
        variables["JAX_COMPILATION_CACHE_DIR"] = str(Path(cache, name))
    return variables


if __name__ == "__main__":
    main()
