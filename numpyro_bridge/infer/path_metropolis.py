"""Independence Metropolis-Hastings over whole paths, one move at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.trajectories.ends import End, draw_end, draw_path_to

NUM_STARTS = 100
"""Paths that a chain chooses its first state from, by weight."""


class PathState(NamedTuple):
    """A state of the chain; the rest of the path is in its weight."""

    position: Any
    """Unconstrained values by site, or the vector of a log density."""
    logdensity: Float[Array, ""]
    """That of the model, in nats."""
    log_weight: Float[Array, ""]
    """That of the path, in nats."""


class PathInfo(NamedTuple):
    """What a step did."""

    acceptance_rate: Float[Array, ""]
    """Probability with which the proposal was accepted."""
    is_accepted: Bool[Array, ""]


class PathMetropolis(NamedTuple):
    """A `SamplingAlgorithm` in BlackJAX's sense: a pair of functions."""

    init: Callable[..., PathState]
    step: Callable[[RNGKey, PathState], tuple[PathState, PathInfo]]


def path_metropolis(posterior: Posterior) -> PathMetropolis:
    r"""A trained bridge as a BlackJAX sampling algorithm, exact however well it is trained.

        run = blackjax.util.run_inference_algorithm
        algorithm = nb.path_metropolis(posterior)
        state, (states, info) = run(key, algorithm, 1_000, initial_position=position)

    Each step draws a path and moves to its end with probability $\min(1, w' / w)$, where $w'$ and
    $w$ are the weights of the two paths. This leaves the law of paths that end in the posterior
    invariant. `init(position, rng_key)` draws a path to a given position by the backward chain.

    Args:
        posterior: Of `BridgeSampler.run`, `AutoBridge.to_posterior` or `nb.load`.

    Returns:
        `init(position, rng_key)` and `step(rng_key, state)`. A position holds unconstrained values
        by site, as NumPyro's potential energy takes them.
    """
    process, target = posterior.process, posterior.target

    def init(position: Any, rng_key: RNGKey | None = None) -> PathState:
        if rng_key is None:
            raise ValueError(
                "the path to the first position is random: call init(position, rng_key)"
            )
        end = draw_path_to(rng_key, process, target, target.base.joined(position))
        return state_of(end)

    def state_of(end: End) -> PathState:
        return PathState(target.base.by_site(end.position), end.log_density, end.log_weight)

    def step(rng_key: RNGKey, state: PathState) -> tuple[PathState, PathInfo]:
        position = target.base.joined(state.position)
        end = End(position, state.logdensity, state.log_weight, jnp.asarray(True))
        end, probability, accepted = global_move(rng_key, process, target, end)
        return state_of(end), PathInfo(probability, accepted)

    return PathMetropolis(init, step)


def global_move(
    rng_key: RNGKey, process: AbstractProcess, target: StandardisedTarget, end: End
) -> tuple[End, Float[Array, ""], Bool[Array, ""]]:
    """Propose the end of a new path; also the probability of accepting it, and whether it was."""
    path_key, accept_key = jax.random.split(rng_key)
    proposal = draw_end(path_key, process, target)
    probability = jnp.exp(jnp.minimum(proposal.log_weight - end.log_weight, 0.0))
    accepted = jax.random.uniform(accept_key, (), probability.dtype) < probability
    end = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, end)
    return end, probability, accepted


@eqx.filter_jit
def first_end(rng_key: RNGKey, process: AbstractProcess, target: StandardisedTarget) -> End:
    """One of a hundred paths, chosen by weight: nearly the posterior where the bridge is good."""
    paths_key, choice_key = jax.random.split(rng_key)
    keys = jax.random.split(paths_key, NUM_STARTS)
    ends = jax.vmap(draw_end, in_axes=(0, None, None))(keys, process, target)
    chosen = jax.random.categorical(choice_key, ends.log_weight)
    return jax.tree.map(lambda leaf: leaf[chosen], ends)
