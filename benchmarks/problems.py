"""All benchmark targets in one form: the target, its evidence, and draws to compare with."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax

import numpyro_bridge as nb
from benchmarks import densities, nuts, targets

NUM_DRAWS = 4_000
"""How many reference draws each problem has."""

NAMES = (*targets.NAMES, *densities.LOADERS)


class Problem(NamedTuple):
    """A target and what is known of it."""

    target: nb.target.Target
    log_evidence: float
    """In nats; NaN where nobody knows it."""
    draws: Any
    """Positions, shape `(num, dim)`, in the target's coordinates; None where there are none."""
    modes: Any
    """Centres of modes of equal mass, or None."""


@functools.cache
def load(name: str, data: Path, reference: bool = True) -> Problem:
    """Load one of the problems in `NAMES`.

    Where a density can be drawn from exactly, its problem has exact draws. For a model NUTS makes
    them, unless `reference` is False.
    """
    if name in densities.LOADERS:
        density = densities.LOADERS[name](data)
        draws = density.draw and density.draw(jax.random.key(0), NUM_DRAWS)
        return Problem(density.target, density.log_evidence, draws, density.modes)
    benchmark = targets.load(name, data)
    target = nb.target_from_model(jax.random.key(0), benchmark.model, **benchmark.kwargs)
    draws = _by_nuts(benchmark, target) if reference else None
    return Problem(target, benchmark.reference.log_evidence, draws, None)


def _by_nuts(benchmark: targets.Benchmark, target: nb.target.ModelTarget):
    mcmc = nuts.four_chains(benchmark.model, num_samples=NUM_DRAWS // 4, target_accept_prob=0.9)
    mcmc.run(jax.random.key(0), **benchmark.kwargs)
    return jax.vmap(target.unconstrain)(mcmc.get_samples())
