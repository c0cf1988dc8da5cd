"""Train a bridge on a problem, and measure it from both ends."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from benchmarks import metrics
from benchmarks.problems import Problem

NUM_DRAWS = 8_000
NUM_POINTS = 500
"""How many draws of each side enter a distance between sets."""


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
    """A bridge that starts from one normal distribution and is trained for all `num_iterations`.

    Whether the noise is learned is an argument of the loss rather than a filter of the arrays, so
    that both cases share compiled code.
    """
    process_key, fit_key = jax.random.split(rng_key)
    target = nb.atlas.StandardisedTarget(problem.target, standardisation.map)
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
    """No standardisation, written as a dense map so that it shares compiled code with others."""
    location = jnp.zeros(target.dim, jnp.result_type(float))
    return nb.atlas.Standardisation(nb.atlas.DenseMap(location, jnp.diag(location + 1)))


optimizer = functools.cache(nb.bridge_optimizer)
"""One object for all runs, since another one would be compiled anew."""


@functools.cache
def loss_of(objective: Callable, num_trajectories: int):
    """A loss of `(rng_key, process, (target, learn_noise))`."""

    def loss(rng_key, process, data):
        target, learn_noise = data
        process = _with_noise_held(process, learn_noise)
        return objective(rng_key, process, target, num_trajectories=num_trajectories)

    return loss


def _with_noise_held(process, learned):
    """The process; the gradients of its noise are multiplied by `learned`, which is zero or one."""

    def hold(part):
        if not _is_noise(part):
            return part
        fixed = jax.tree.map(jax.lax.stop_gradient, part)
        return jax.tree.map(lambda x, y: y + learned.astype(x.dtype) * (x - y), part, fixed)

    return jax.tree.map(hold, process, is_leaf=_is_noise)


def _is_noise(part) -> bool:
    return isinstance(part, nb.processes.Diffusion | nb.processes.UnderdampedScales)


def measure(rng_key, posterior: nb.Posterior, problem: Problem) -> dict[str, float]:
    """What the two chains say, and how far the forward draws are from the reference.

    `gap` is log Z - ELBO and `eubo_gap` is EUBO - log Z. `evidence_error` is how far the estimate
    of log Z by forward runs is from log Z, and `evidence_error_reverse` how far the one by backward
    runs is. `ess` and `ess_reverse` are the effective share of the forward draws as forward and as
    backward runs see it. A figure is NaN where the problem lacks what it needs.
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
    """The root of the Sinkhorn divergence, and the signed root of the squared MMD.

    Each side has 500 points. The cost of the Sinkhorn divergence is the squared Euclidean distance,
    and its regularisation a tenth of the squared median distance between reference draws. The MMD
    has a Gaussian kernel with that median distance as bandwidth.
    """
    num = len(points)
    # Chains lie one after the other, so draws at equal intervals are a part of each chain.
    reference = reference[:: len(reference) // num][:num]
    width = metrics.median_distance(reference)
    divergence = metrics.sinkhorn_divergence(points, reference, 0.1 * width**2)
    squared = metrics.squared_mmd(points, reference, width)
    return {
        "sinkhorn": float(jnp.sqrt(jnp.maximum(divergence, 0.0))),
        "mmd": float(jnp.sign(squared) * jnp.sqrt(jnp.abs(squared))),
    }
