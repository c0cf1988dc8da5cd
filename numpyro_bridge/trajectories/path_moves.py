"""Independence Metropolis-Hastings over whole paths: one move, and a first path to move from."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.trajectories.ends import End, draw_end

NUM_STARTS = 100
"""Paths that a chain chooses its first state from, by weight."""


def global_move(
    rng_key: RNGKey, process: AbstractProcess[Any], target: SeenTarget, end: End
) -> tuple[End, Float[Array, ""], Bool[Array, ""]]:
    """Propose the end of a new path; also the probability of accepting it, and whether it was."""
    path_key, accept_key = jax.random.split(rng_key)
    proposal = draw_end(path_key, process, target)
    probability = jnp.exp(jnp.minimum(proposal.log_weight - end.log_weight, 0.0))
    accepted = jax.random.uniform(accept_key, (), probability.dtype) < probability
    end = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, end)
    return end, probability, accepted


@eqx.filter_jit
def first_end(rng_key: RNGKey, process: AbstractProcess[Any], target: SeenTarget) -> End:
    """One of a hundred paths, chosen by weight: nearly the posterior where the bridge is good."""
    paths_key, choice_key = jax.random.split(rng_key)
    keys = jax.random.split(paths_key, NUM_STARTS)
    ends = jax.vmap(draw_end, in_axes=(0, None, None))(keys, process, target)
    chosen = jax.random.categorical(choice_key, ends.log_weight)
    return jax.tree.map(lambda leaf: leaf[chosen], ends)
