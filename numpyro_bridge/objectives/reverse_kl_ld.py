"""Reverse Kullback–Leibler divergence by the log-derivative trick."""

import jax
import jax.numpy as jnp

from numpyro_bridge._typing import RNGKey, Scalar
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories import Trajectory, simulate_detached


def reverse_kl_ld(
    rng_key: RNGKey, process: AbstractProcess, target: Target, *, num_trajectories: int
) -> tuple[Scalar, Trajectory]:
    r"""The gradient of the negative ELBO without a gradient through the path. The default.

    $$\nabla \mathcal{L} = \mathbb{E}\left[(c - \bar c)\,\nabla \log \vec{p}
      - \nabla \log \overleftarrow{p}\right], \qquad c = -\log w$$

    States are held fixed, so the cost does not depend on how hard the score is to differentiate,
    memory does not grow with the scan, and the noise vanishes as the weights become equal.
    The value returned is a surrogate whose gradient is the point; read the ELBO off the
    trajectories.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains; the gradient is with respect to its arrays.
        target: The density, unnormalised.
        num_trajectories: Batch size, at least 2; each trajectory's baseline is the mean cost of
            the others, which leaves the gradient unbiased.

    Returns:
        The surrogate loss, and the trajectories it was estimated from.

    Raises:
        ValueError: if `num_trajectories` is below 2.

    Reference: Sanokowski et al. (2025), arXiv:2506.10982 (rKL-LD). Departs from it in the
    leave-one-out baseline.
    """
    if num_trajectories < 2:
        raise ValueError(
            f"reverse_kl_ld compares trajectories with each other: num_trajectories must be at "
            f"least 2, got {num_trajectories}"
        )
    runs = simulate_detached(rng_key, process, target, num_trajectories)
    cost = jax.lax.stop_gradient(-runs.log_weight)
    advantage = (cost - jnp.mean(cost)) * num_trajectories / (num_trajectories - 1)
    return jnp.mean(advantage * runs.log_forward - runs.log_backward), runs
