"""One line per sampler and per loss: the tests of identities run over these."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

import numpyro_bridge as nb
from numpyro_bridge.processes.initial import InitialMixture


def narrow(width: int, depth: int = 2):
    """A constructor of small controls."""
    return partial(nb.processes.ScoreInformedControl, width=width, depth=depth)


SMALL = {"num_steps": 4, "diffusion": 0.5, "control": narrow(8, depth=1)}
SMALL_UNDERDAMPED = {"num_steps": 4, "step_size": 0.5, "control": narrow(8, depth=1)}


def two_normals(dim: int = 2) -> InitialMixture:
    """A start from two places, one of them stretched along the diagonal."""
    eye = jnp.eye(dim)
    factors = jnp.stack([0.7 * eye, 0.8 * eye + 0.3 * jnp.tril(jnp.ones((dim, dim)), -1)])
    means = jnp.stack([jnp.full(dim, 1.5), jnp.full(dim, -1.5)])
    return InitialMixture(jnp.log(jnp.asarray([0.6, 0.4])), means, factors)


FROM_PRIOR = "CMCD from the prior"
"""Needs a target that has one."""


def denoising_process(rng_key, dim: int, num_steps: int = 4) -> nb.diffusion.DenoisingProcess:
    """DDPM by an untrained network."""
    denoiser = nb.diffusion.untrained_denoiser(rng_key, dim, width=8, depth=1)
    return nb.diffusion.DenoisingProcess(denoiser, dim, num_steps=num_steps)


PROCESSES = {
    "CMCD": partial(nb.CMCD, **SMALL),
    "CMCD from a mixture": partial(nb.CMCD, initial=two_normals(), **SMALL),
    FROM_PRIOR: partial(nb.CMCD, initial=nb.processes.InitialPrior(), **SMALL),
    "DBS": partial(nb.DBS, **SMALL),
    "DBS from a mixture": partial(nb.DBS, initial=two_normals(), **SMALL),
    "PIS": partial(nb.PIS, **SMALL),
    "DDS": partial(nb.DDS, **SMALL),
    "DIS": partial(nb.DIS, **SMALL),
    "AnnealedLangevin": partial(nb.AnnealedLangevin, num_steps=4, diffusion=0.5),
    "MCD": partial(nb.MCD, **SMALL),
    "UnderdampedCMCD": partial(nb.UnderdampedCMCD, **SMALL_UNDERDAMPED),
    "UnderdampedCMCD by BAOAB": partial(
        nb.UnderdampedCMCD, integrator=nb.processes.BAOAB(), **SMALL_UNDERDAMPED
    ),
    "UnderdampedDBS by OBAB": partial(
        nb.UnderdampedDBS, integrator=nb.processes.OBAB(), **SMALL_UNDERDAMPED
    ),
    "UnderdampedDIS by Euler-Maruyama": partial(
        nb.UnderdampedDIS, integrator=nb.processes.EulerMaruyama(), **SMALL_UNDERDAMPED
    ),
    "UHA": partial(nb.UHA, num_steps=4, step_size=0.5),
    "LDVI": partial(nb.LDVI, **SMALL_UNDERDAMPED),
    "DenoisingProcess": denoising_process,
}
"""Constructors `(rng_key, dim)` of every sampler, small, for two dimensions."""

FAST = ("CMCD", "DBS", "UnderdampedCMCD")
"""One sampler of each kind, for the fast half of the tests."""


def some_fast(cases) -> list:
    """Arguments for `pytest.mark.parametrize`, where the samplers in `FAST` are marked as fast."""
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*row, marks=pytest.mark.fast if row[0] in FAST else ()) for row in rows]


OBJECTIVES = {
    "reverse_kl": nb.reverse_kl,
    "reverse_kl_path": nb.reverse_kl_path,
    "reverse_kl_ld": nb.reverse_kl_ld,
    "reverse_kl_ld explored": partial(nb.reverse_kl_ld, sampling=nb.objectives.widened),
    "log_variance": nb.log_variance,
    "log_variance explored": partial(nb.log_variance, sampling=nb.objectives.widened),
    "forward_kl": nb.forward_kl,
    "mixed": nb.mixed((0.5, nb.reverse_kl_ld), (0.5, nb.forward_kl)),
}
"""Every loss that reads trajectories of any process."""


CONTROLS = {"ScoreInformedControl": narrow(8)}
"""Constructors `(rng_key, dim)` of every control, small."""


def perturbed(rng_key, module, size: float = 0.1):
    """The module with noise on every array: no control is zero, nothing is at its default."""
    arrays, static = eqx.partition(module, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(arrays)
    noise = jax.random.normal(rng_key, flat.shape, flat.dtype)
    return eqx.combine(unravel(flat + size * noise), static)


def untrained(name: str, seed: int = 1, size: float = 0.1):
    """A sampler of the catalogue at random parameters, in two dimensions."""
    process = eqx.filter_jit(PROCESSES[name])(jax.random.key(seed), 2)
    return perturbed(jax.random.key(seed + 1), process, size)
