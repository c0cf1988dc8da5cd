"""Train a bridge on a problem, and measure it from both ends."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from benchmarks import metrics
from benchmarks.problems import Problem
from numpyro_bridge.atlas.affine import as_dense, identity_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget

NUM_DRAWS = 8_000
NUM_POINTS = 500
"""Draws of each side in distances between sets."""

NOISE = {"log_diffusion", "log_step_size", "log_friction", "log_mass"}
"""Fields of a process that shape its noise."""


def train(
    rng_key,
    make_process: Callable[..., nb.processes.AbstractProcess],
    objective: Callable,
    problem: Problem,
    standardisation: nb.atlas.Standardisation,
    *,
    num_trajectories: int,
    num_iterations: int,
    learn_noise: bool = True,
) -> nb.Posterior:
    """A bridge after exactly so many iterations; it starts from one normal law.

    Noise that is held fixed is data of the loss and no filter, so that both share compiled code.
    """
    process_key, fit_key = jax.random.split(rng_key)
    target = StandardisedTarget(problem.target, standardisation.map)
    training = nb.training.fit(
        fit_key,
        make_process(process_key, target.dim),
        loss_of(objective, num_trajectories),
        (target, jnp.asarray(float(learn_noise))),
        optimizer=optimizer(),
        num_iterations=num_iterations,
        tolerance=0.0,
        progress_bar=False,
    )
    report = nb.training.RunReport().after(training)
    return nb.Posterior(training.module, target, standardisation, training.metrics, report)


def no_map(rng_key, target: nb.target.Target) -> nb.atlas.Standardisation:
    """No standardisation, in the form of a dense map, so that compiled code is shared."""
    standardisation = nb.no_standardisation(rng_key, target)
    return standardisation._replace(map=as_dense(identity_map(target.dim)))


optimizer = functools.cache(nb.bridge_optimizer)
"""One object for all runs: another one would be other code."""


@functools.cache
def loss_of(objective: Callable, num_trajectories: int):
    """A loss of `(rng_key, process, (target, learn_noise))`."""

    def loss(rng_key, process, data):
        target, learn_noise = data
        process = _with_noise_held(process, learn_noise)
        return objective(rng_key, process, target, num_trajectories=num_trajectories)

    return loss


def _with_noise_held(process, learned):
    """The process, with gradients of its noise times `learned`, zero or one."""

    def hold(path, leaf):
        if not (eqx.is_inexact_array(leaf) and NOISE & {getattr(k, "name", "") for k in path}):
            return leaf
        fixed = jax.lax.stop_gradient(leaf)
        return fixed + learned.astype(leaf.dtype) * (leaf - fixed)

    return jax.tree_util.tree_map_with_path(hold, process)


def measure(rng_key, posterior: nb.Posterior, problem: Problem) -> dict[str, float]:
    """What the two chains say, and how far the forward draws are from the reference.

    `gap` is log Z - ELBO and `eubo_gap` EUBO - log Z; `evidence_error` and
    `evidence_error_reverse` are the estimates' distances from log Z, by forward and by backward
    runs; `ess` and `ess_reverse` the effective share of forward draws as the two see it. NaN where
    the problem lacks what a figure needs.
    """
    forward_key, backward_key = jax.random.split(rng_key)
    draws = posterior.sample(forward_key, num_samples=NUM_DRAWS)
    row = {
        "gap": problem.log_evidence - draws.elbo,
        "gap_error": draws.elbo_error,
        "eubo_gap": np.nan,
        "evidence_error": draws.log_evidence - problem.log_evidence,
        "evidence_error_reverse": np.nan,
        "ess": draws.ess,
        "ess_reverse": np.nan,
        "pareto_k": draws.pareto_k,
        "sinkhorn": np.nan,
        "mmd": np.nan,
        "coverage": np.nan,
    }
    if problem.draws is None:
        return row
    row |= _backward(backward_key, posterior, problem)
    row |= distances(draws.position[:NUM_POINTS], problem.draws)
    if problem.modes is not None:
        shares = metrics.mode_shares(draws.position, problem.modes)
        row["coverage"] = float(metrics.entropic_mode_coverage(shares))
    return row


def _backward(rng_key, posterior: nb.Posterior, problem: Problem) -> dict[str, float]:
    try:
        runs = posterior.run_backward(rng_key, problem.draws)
    except ValueError:  # diverged: no backward trajectory is finite
        return {}
    return {
        "eubo_gap": runs.eubo - problem.log_evidence,
        "evidence_error_reverse": runs.log_evidence - problem.log_evidence,
        "ess_reverse": runs.ess,
    }


def distances(points, reference) -> dict[str, float]:
    """Root of the Sinkhorn divergence, and the signed root of the squared MMD.

    Cost: squared Euclidean, with a regularisation of a tenth of the squared median distance
    between reference draws; Gaussian kernel, with that distance as bandwidth. 500 points each.
    """
    num = len(points)
    # Chains lie one after the other: every so many, for a part of each.
    reference = reference[:: len(reference) // num][:num]
    width = metrics.median_distance(reference)
    divergence = metrics.sinkhorn_divergence(points, reference, 0.1 * width**2)
    squared = metrics.squared_mmd(points, reference, width)
    return {
        "sinkhorn": float(jnp.sqrt(jnp.maximum(divergence, 0.0))),
        "mmd": float(jnp.sign(squared) * jnp.sqrt(jnp.abs(squared))),
    }
