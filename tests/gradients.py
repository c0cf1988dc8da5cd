"""Gradients of a loss batch by batch, so that two estimators of one gradient can be compared."""

import functools

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from tests import catalogue, targets
from tests.statistics import z_scores

TARGET = targets.skewed().target
NUM_BATCHES = 400


@eqx.filter_jit
def gradients(objective, rng_key, process, num_batches: int, num_trajectories: int, target=TARGET):
    """One gradient a batch, in rows, with a column for each parameter."""
    params, static = eqx.partition(process, eqx.is_inexact_array)

    def gradient(key):
        def loss(params):
            process = eqx.combine(params, static)
            return objective(key, process, target, num_trajectories=num_trajectories)[0]

        return ravel_pytree(jax.grad(loss)(params))[0]

    return jax.lax.map(gradient, jax.random.split(rng_key, num_batches), batch_size=20)


@functools.cache
def many_gradients(objective: str, name: str):
    objective_key = jax.random.key(list(catalogue.OBJECTIVES).index(objective))
    process = catalogue.untrained(name, size=0.1)
    return gradients(catalogue.OBJECTIVES[objective], objective_key, process, NUM_BATCHES, 64)


def columns_of(process, where) -> np.ndarray:
    """Which columns of `gradients` belong to a part of a process, or of one in the catalogue."""
    process = catalogue.untrained(process) if isinstance(process, str) else process
    params = eqx.filter(process, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(params)
    numbered = jax.tree.unflatten(structure, range(len(leaves)))
    marked = set(jax.tree.leaves(where(numbered)))
    columns = [np.full(np.size(leaf), i in marked) for i, leaf in enumerate(leaves)]
    return np.concatenate(columns)


def assert_one_gradient(a, b) -> None:
    z = np.abs(z_scores(a, b))
    assert np.max(z) < 5
    assert np.median(z) < 1  # 0.67 for exact agreement
