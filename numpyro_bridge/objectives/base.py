"""Where the trajectories of a loss come from, and how much each of them counts."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.simulate import Trajectory, detached, simulate_detached


class Batch(NamedTuple):
    """Trajectories with fixed states."""

    runs: Trajectory
    weight: Float[Array, " num"]
    """What each counts in an average over the forward chain; mean one, without gradient."""
    reported: Trajectory
    """As if drawn from the forward chain: what training reports on."""


SMALLEST_ESS = 0.1
"""Effective share of a batch below which its gradient goes without control variate."""

Sampling = Callable[[RNGKey, AbstractProcess, Target, int], Batch]
"""Where trajectories come from: `on_policy`, `widened`, `replayed`, or a function like these."""

Objective = Callable[..., tuple[Scalar, Trajectory]]
"""`(rng_key, process, target, *, num_trajectories, ...)` to a loss and what it was made of."""


def on_policy(
    rng_key: RNGKey, process: AbstractProcess, target: Target, num_trajectories: int
) -> Batch:
    """Trajectories of the forward chain itself."""
    runs = simulate_detached(rng_key, process, target, num_trajectories)
    return Batch(runs, jnp.ones_like(runs.log_forward), runs)


def widened(
    rng_key: RNGKey,
    process: AbstractProcess,
    target: Target,
    num_trajectories: int,
    *,
    factor: float = 1.1,
) -> Batch:
    """Trajectories of a chain with wider noise, weighted back to the forward chain.

    Exploration: it visits what the forward chain does not visit yet. The weights are ratios of
    the densities of whole paths, normalised to mean one; they become unequal quickly with the
    factor, the steps and the dimension, and losses that are right for any trajectories, such as
    `log_variance`, leave them aside.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains.
        target: The density, unnormalised.
        num_trajectories: Batch size.
        factor: Times the standard deviation of the forward chain's noise and start; positive.
    """
    if not factor > 0:
        raise ValueError(f"factor widens the noise and must be positive, got {factor}")
    wide = process.widened(factor)
    wide_runs = simulate_detached(rng_key, wide, target, num_trajectories)
    runs = detached(process, target, wide_runs.states)
    log_ratio = jax.lax.stop_gradient(runs.log_forward - wide_runs.log_forward)
    weight = jax.nn.softmax(log_ratio) * num_trajectories
    choice_key = jax.random.fold_in(rng_key, num_trajectories)
    rows = jax.random.choice(choice_key, num_trajectories, (num_trajectories,), p=weight)
    return Batch(runs, weight, jax.tree.map(lambda leaf: leaf[rows], runs))


def check_batch(name: str, num_trajectories: int) -> None:
    """Raise a ValueError where a loss that compares trajectories is given a single one."""
    if num_trajectories < 2:
        raise ValueError(
            f"{name} compares trajectories with each other: num_trajectories must be at least 2, "
            f"got {num_trajectories}"
        )


def advantage(batch: Batch) -> Float[Array, " num"]:
    """Each trajectory's cost, `-log_weight`, less the mean cost of the others; without gradient.

    The mean is that over the forward chain, and leaving itself out keeps gradients unbiased.
    """
    cost = jax.lax.stop_gradient(-batch.runs.log_weight)
    share = batch.weight / jnp.sum(batch.weight)
    others = jnp.maximum(1 - share, jnp.finfo(share.dtype).tiny)
    return (cost - share @ cost) / others


def control_variate(batch: Batch) -> Float[Array, " num"]:
    """A multiple of each weight; without gradient.

    The score of the backward chain averages to zero over that chain, so weighted over the forward
    one: a multiple of the weight may be taken off what multiplies it. The multiple that leaves the
    least variance is the mean weight over the mean square, one if the weights are equal. It is
    that of the other trajectories, which keeps gradients unbiased, and zero where these are so
    unequal that they say little.
    """
    log_weight = jax.lax.stop_gradient(batch.runs.log_weight)
    weight = jnp.exp(log_weight - jnp.max(log_weight))
    first, second = (
        jnp.sum(moment) - moment for moment in (batch.weight * weight, batch.weight * weight**2)
    )
    second = jnp.maximum(second, jnp.finfo(second.dtype).tiny)
    equal_enough = first**2 > SMALLEST_ESS * len(first) * second
    return jnp.where(equal_enough, weight * first / second, 0.0)


def stratified_times(rng_key: RNGKey, num: int) -> Float[Array, "{num}"]:
    """Times in (0, 1), one in each of `num` equal parts, each uniform."""
    uniform = jax.random.uniform(rng_key, (num,), jnp.result_type(float))
    tiny = jnp.finfo(uniform.dtype).eps
    return jnp.clip((jnp.arange(num) + uniform) / num, tiny, 1 - tiny)
