"""Where the trajectories of a loss come from, and how much each of them counts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_count, check_positive
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.arguments import check_chains
from numpyro_bridge.trajectories.rescore import rescore_held
from numpyro_bridge.trajectories.simulate import simulate_held
from numpyro_bridge.trajectories.trajectory import Trajectory


class Batch(NamedTuple):
    """Trajectories whose states are held fixed, and how much each of them counts."""

    runs: Trajectory
    """The trajectories; the leading axis counts them."""
    weight: Float[Array, " num"]
    """How much each counts in an average over the forward chain; mean one, without gradient."""
    reported: Trajectory
    """Trajectories that follow the forward chain, for training to report on."""


Sampling = Callable[[RNGKey, AbstractProcess[Any], Target, int], Batch]
"""Where trajectories come from: `on_policy`, `widened`, `replayed`, or a function like these."""


def on_policy(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, num_trajectories: int
) -> Batch:
    """Trajectories of the forward chain itself.

    >>> batch = nb.objectives.on_policy(key, process, target, 8)
    >>> batch.weight.tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    runs = simulate_held(rng_key, process, target, num_trajectories)
    return Batch(runs, jnp.ones_like(runs.log_forward), runs)


def widened(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: Target,
    num_trajectories: int,
    *,
    factor: float = 1.1,
) -> Batch:
    """Trajectories of a chain with wider noise, weighted back to the forward chain.

    >>> sampling = partial(nb.objectives.widened, factor=1.2)
    >>> objective = partial(nb.reverse_kl_ld, sampling=sampling)
    >>> sampler = nb.BridgeSampler(model, objective=objective)

    Choose it for exploration: the wider chain visits places that the forward chain does not reach
    yet. The weights are ratios of the densities of whole paths, normalised to mean one. They
    quickly become unequal as the factor, the number of steps or the dimension grows. Losses that
    are right for any trajectories, such as `log_variance`, ignore them.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains.
        target: The density, unnormalised.
        num_trajectories: Batch size.
        factor: What the standard deviations of the forward chain's start and noise are multiplied
            by; positive.

    Raises:
        ValueError: if `factor` is not positive.
    """
    check_chains(rng_key, process, target)
    num_trajectories = check_count("num_trajectories", num_trajectories, 1)
    factor = check_positive("factor", factor)
    wide = process.widened(factor)
    wide_runs = simulate_held(rng_key, wide, target, num_trajectories)
    runs = rescore_held(process, target, wide_runs.states)
    log_ratio = jax.lax.stop_gradient(runs.log_forward - wide_runs.log_forward)
    weight = jax.nn.softmax(log_ratio) * num_trajectories
    choice_key = jax.random.fold_in(rng_key, num_trajectories)
    rows = jax.random.choice(choice_key, num_trajectories, (num_trajectories,), p=weight)
    return Batch(runs, weight, jax.tree.map(lambda leaf: leaf[rows], runs))
