"""Reverse Kullback–Leibler divergence by the log-derivative trick."""

from typing import Any

import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import check_request
from numpyro_bridge.objectives.baselines import advantage, control_variate
from numpyro_bridge.objectives.sampling import Sampling, on_policy
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.trajectory import Trajectory


def reverse_kl_ld(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: Target,
    *,
    num_trajectories: int,
    sampling: Sampling = on_policy,
) -> tuple[Scalar, Trajectory]:
    r"""The gradient of the negative ELBO without a gradient through the path. The default.

    >>> sampler = nb.BridgeSampler(model, objective=nb.reverse_kl_ld)
    >>> loss, runs = nb.reverse_kl_ld(key, process, target, num_trajectories=8)
    >>> elbo = runs.log_weight.mean()

    $$\nabla \mathcal{L} = \mathbb{E}\left[(c - \bar c)\,\nabla \log \vec{p}
      - (1 - \lambda w)\,\nabla \log \overleftarrow{p}\right], \qquad c = -\log w$$

    States are held fixed, so the cost does not depend on how hard the score is to differentiate,
    and memory does not grow with the scan. The baseline $\bar c$ and the control variate
    $\lambda w$ do not change the mean of the gradient; its noise vanishes as the weights become
    equal. The value returned is a surrogate of which only the gradient has a meaning; read the
    ELBO off the trajectories.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains; the gradient is with respect to its arrays.
        target: The density, unnormalised.
        num_trajectories: Batch size, at least 2; each trajectory's baseline is the mean cost of
            the others, which leaves the gradient unbiased.
        sampling: Where trajectories come from; those that the forward chain did not make are
            weighted.

    Returns:
        The surrogate loss, and the trajectories it was estimated from.

    Raises:
        ValueError: if `num_trajectories` is below 2.

    Reference: Sanokowski et al. (2025), arXiv:2506.10982 (rKL-LD). Departs from it in the
    leave-one-out baseline and in the control variate.
    """
    num_trajectories = check_request(
        rng_key, process, target, num_trajectories, sampling, compares="reverse_kl_ld"
    )
    batch = sampling(rng_key, process, target, num_trajectories)
    runs = batch.runs
    surrogate = advantage(batch) * runs.log_forward
    surrogate -= (1 - control_variate(batch)) * runs.log_backward
    return jnp.mean(batch.weight * surrogate), batch.reported
