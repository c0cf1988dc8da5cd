"""Reverse Kullback–Leibler divergence, differentiated through the path."""

from typing import Any

import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import check_request
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.simulate import simulate_many
from numpyro_bridge.trajectories.trajectory import Trajectory


def reverse_kl(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, *, num_trajectories: int
) -> tuple[Scalar, Trajectory]:
    r"""The negative ELBO, by reparametrisation: gradients run through every state.

    >>> sampler = nb.BridgeSampler(model, objective=nb.reverse_kl)
    >>> loss, runs = nb.reverse_kl(key, process, target, num_trajectories=8)
    >>> bool(jnp.isclose(loss, -runs.log_weight.mean()))
    True

    $$\mathcal{L} = -\mathbb{E}_{\varepsilon}\left[\log w(x(\varepsilon))\right]$$

    Choose it for a model with cheap second derivatives. Its memory grows with the number of
    steps, and one iteration costs a backward pass through the chain and through the score.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains; the gradient is with respect to its arrays.
        target: The density, unnormalised.
        num_trajectories: Batch size.

    Returns:
        The loss in nats, and the trajectories it was estimated from.

    Reference: the rKL-R loss of Sanokowski et al. (2025), arXiv:2506.10982. Departs from published
    code in differentiating also the score that the network sees; to stop the gradient there would
    bias it.
    """
    num_trajectories = check_request(rng_key, process, target, num_trajectories)
    runs = simulate_many(rng_key, process, target, num_trajectories)
    return -jnp.mean(runs.log_weight), runs
