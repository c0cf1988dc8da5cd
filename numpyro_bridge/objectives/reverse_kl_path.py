"""Reverse Kullback–Leibler divergence by the path gradient: sticking the landing."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge._core.devices import divide
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import check_request
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.rescore import rescore
from numpyro_bridge.trajectories.simulate import simulate_states
from numpyro_bridge.trajectories.trajectory import Trajectory


def reverse_kl_path(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, *, num_trajectories: int
) -> tuple[Scalar, Trajectory]:
    r"""The gradient of `reverse_kl` without the part of it that is zero on average.

    >>> sampler = nb.BridgeSampler(model, objective=nb.reverse_kl_path)
    >>> loss, runs = nb.reverse_kl_path(key, process, target, num_trajectories=8)
    >>> runs.log_weight.shape
    (8,)

    $$\nabla \mathcal{L} = \mathbb{E}_\varepsilon\left[\nabla \log
      \frac{\vec{p}_{\bar\theta}(x_\theta(\varepsilon))}
      {\overleftarrow{p}_\theta(x_\theta(\varepsilon))}\right]$$

    The forward density is differentiated along the path and not in its parameters
    ($\bar\theta$), since the gradient in these has mean zero. As the weights become equal, the
    gradient of the forward chain loses its noise. The loss costs one pass over the states more than
    `reverse_kl`.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains; the gradient is with respect to its arrays.
        target: The density, unnormalised.
        num_trajectories: Batch size.

    Returns:
        The loss in nats, and the trajectories it was estimated from.

    Reference: Roeder, Wu and Duvenaud (2017), arXiv:1703.09194; for bridges, Vargas et al. (2023),
    arXiv:2302.13834.
    """
    num_trajectories = check_request(rng_key, process, target, num_trajectories)
    held = _held_but_for_moves(process)

    def run(key: RNGKey) -> Trajectory:
        states = simulate_states(key, process, target)
        log_forward = rescore(held, target, states).log_forward
        return rescore(process, target, states)._replace(log_forward=log_forward)

    runs = jax.vmap(run)(divide(jax.random.split(rng_key, num_trajectories)))
    return -jnp.mean(runs.log_weight), runs


def _held_but_for_moves(process: AbstractProcess[Any]) -> AbstractProcess[Any]:
    """The process without gradients, except those of moves that are not random.

    The gradient in the parameters of such moves need not have mean zero, so it is kept.
    """
    arrays, static = eqx.partition(process, eqx.is_inexact_array)
    held = eqx.combine(jax.lax.stop_gradient(arrays), static)
    moves = process.fixed_by_states()
    return eqx.tree_at(lambda p: p.fixed_by_states(), held, moves) if moves else held
