"""Posteriors learned in rounds from the log joint alone: evidence, effective sample size, seconds.

    python -m benchmarks.from_log_joint --data FOLDER

Mixtures are learned on a single map. The table is written to `from_log_joint.md`.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from benchmarks import case_table, densities, targets
from numpyro_bridge.atlas.particles import from_normal

TABLE = Path(__file__).with_suffix(".md")
NUM = 16_000


class Case(NamedTuple):
    """What to run, and what should come out."""

    model: Any
    kwargs: dict
    settings: dict
    log_evidence: float
    shares: Any = None
    """From positions and normalised weights to a few words about the modes."""


def two_modes_log_density(x):
    """Two modes on a diagonal in four dimensions, one with 0.7 of the mass and one with 0.3."""
    centres = jnp.asarray([[2.0] * 4, [-2.0] * 4])
    scales = jnp.asarray([0.6, 0.8])
    squares = jnp.sum((x - centres) ** 2, axis=1) / scales**2
    parts = jnp.log(jnp.asarray([0.7, 0.3])) - 0.5 * squares - 4 * jnp.log(scales)
    return jax.nn.logsumexp(parts) - 2 * jnp.log(2 * jnp.pi)


def many_well_log_density(x):
    """Sixteen double wells: 2^16 modes in 32 dimensions."""
    wells, others = x[::2], x[1::2]
    return jnp.sum(0.5 * wells + 6 * wells**2 - wells**4 - 0.5 * others**2)


def _share_of_heavy(position, weight):
    return f"heavy mode {np.sum(weight[position[:, 0] > 0]):.3f} of 0.7"


def _shares_of_forty(means):
    def shares(position, weight):
        nearest = np.argmin(np.sum((position[:, None] - means) ** 2, axis=-1), axis=1)
        mass = np.bincount(nearest, weight, minlength=len(means)) * len(means)
        good = np.sum(np.abs(mass - 1) < 0.2)
        return f"{np.sum(mass > 0.05)} modes of 40, {good} within 20 %"

    return shares


def _share_of_wells(position, weight):
    left = weight @ np.mean(position[:, ::2] < 0, axis=1)
    return f"shallow wells {left:.3f} of 0.156"


def load(name: str, data: Path) -> Case:
    """One case by its name."""
    if name in targets.NAMES:
        benchmark = targets.load(name, data)
        settings = {}
        return Case(benchmark.model, benchmark.kwargs, settings, benchmark.reference.log_evidence)
    wide = partial(from_normal, scale=3.0)
    if name == "two_modes":
        target = nb.target_from_log_density(two_modes_log_density, 4)
        settings = {"start": wide, "max_charts": 1}
        return Case(target, {}, settings, 0.0, _share_of_heavy)
    if name == "many_well":
        target = nb.target_from_log_density(many_well_log_density, 32)
        settings = {
            "start": wide,
            "max_charts": 1,
            "denoiser": partial(nb.diffusion.untrained_denoiser, width=256, depth=2),
            # Between wells the log joint is steep, and its scores are the noise of the target.
            "with_scores": False,
            "num_iterations": 3_000,
            "num_particles": 20_000,
            "max_rounds": 3,
        }
        return Case(target, {}, settings, 164.695675, _share_of_wells)
    mixture = densities.LOADERS["gmm40_2d"](data)
    settings = {
        "start": partial(from_normal, scale=40.0),
        "max_charts": 1,
        "denoiser": partial(nb.diffusion.untrained_denoiser, width=128, depth=3),
        "with_scores": False,
        "num_iterations": 4_000,
    }
    return Case(
        mixture.target,
        {},
        settings,
        mixture.log_evidence,
        _shares_of_forty(np.asarray(mixture.modes)),
    )


CASES = ("seeds", "ionosphere", "two_modes", "gmm40", "many_well")


def measure(name: str, data: Path, key: int = 0) -> list[str]:
    """One row of the table."""
    case = load(name, data)
    start = time.perf_counter()
    sampler = nb.DiffusionSampler(case.model, progress_bar=False, **case.settings)
    posterior = sampler.run(jax.random.key(key), **case.kwargs)
    seconds = time.perf_counter() - start
    draws = posterior.sample(jax.random.key(key + 1), num_samples=NUM)
    report = posterior.report
    by_round = ", ".join(f"{one.ess:.2f}" for one in report.rounds)
    weight = np.asarray(jax.nn.softmax(draws.log_weight))
    modes = case.shares(np.asarray(draws.position), weight) if case.shares else ""
    return [
        name,
        f"{posterior.target.dim}",
        f"{case.log_evidence:.3f}",
        f"{draws.elbo:.3f}",
        f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}",
        f"{draws.ess:.2f}",
        f"{draws.pareto_k:.2f}",
        f"{report.num_temperatures}",
        by_round,
        f"{seconds:.0f}",
        modes,
    ]


NOTES = [
    "`python -m benchmarks.from_log_joint --data FOLDER`, key 0; settings other than the defaults "
    "are in the script.",
]
COLUMNS = [
    "target",
    "dim",
    "log Z",
    "ELBO",
    "log evidence",
    "ESS",
    "k-hat",
    "temperatures",
    "ESS of the rounds",
    "seconds",
    "modes",
]


def main() -> None:
    """Measure every case, print and write the table."""
    case_table.run(
        __doc__,
        CASES,
        measure,
        title="Learned from the log joint alone",
        notes=NOTES,
        columns=COLUMNS,
        path=TABLE,
    )


if __name__ == "__main__":
    main()
