"""Log-variance divergence: the variance of the log weights."""

from typing import Any

import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import check_request
from numpyro_bridge.objectives.sampling import Sampling, on_policy
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.trajectory import Trajectory


def log_variance(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: Target,
    *,
    num_trajectories: int,
    sampling: Sampling = on_policy,
) -> tuple[Scalar, Trajectory]:
    r"""Half the variance of the log weights over trajectories that are held fixed.

    >>> sampler = nb.BridgeSampler(model, objective=nb.log_variance)
    >>> loss, runs = nb.log_variance(key, process, target, num_trajectories=8)
    >>> bool(loss >= 0)
    True

    $$\mathcal{L} = \tfrac{1}{2}\,\mathrm{Var}\left[\log w\right]$$

    Its gradient equals that of `reverse_kl_ld` where the backward chain has no parameters. Where
    it has some, or where diffusion coefficients are learned, the two differ, and training on this
    loss often diverges. Then hold those parameters fixed with the `trainable` filter of `fit`, or
    choose `reverse_kl_ld`.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains; the gradient is with respect to its arrays.
        target: The density, unnormalised.
        num_trajectories: Batch size, at least 2.
        sampling: Where trajectories come from; the variance is taken over them, unweighted.

    Returns:
        The loss in nats squared, and the trajectories it was estimated from.

    Raises:
        ValueError: if `num_trajectories` is below 2.

    Reference: Richter and Berner (2024), arXiv:2307.01198. Departs from it in the factor one half,
    which makes the gradients of the two losses comparable.
    """
    num_trajectories = check_request(
        rng_key, process, target, num_trajectories, sampling, compares="log_variance"
    )
    batch = sampling(rng_key, process, target, num_trajectories)
    return 0.5 * jnp.var(batch.runs.log_weight, ddof=1), batch.reported
