"""Corrections: which of the weighted draws stand at each step of chains from the target."""

import warnings as python_warnings
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core import weights
from numpyro_bridge._core.types import RNGKey

Correction = Literal["metropolis", "psis"] | None
"""How draws are corrected; None keeps those of the sampler."""

Corrected = tuple[Int[Array, "chain draw"], dict[str, Array]]
"""The number of the draw at each step of each chain, and statistics of the steps."""


def check_correction(correction: Any) -> None:
    """Raise a ValueError unless this names a correction."""
    if not isinstance(correction, str | None) or correction not in CORRECTIONS:
        raise ValueError(
            f"correction should be 'metropolis', 'psis' or None, but it is {correction!r}. "
            "'metropolis' is exact for any trained sampler and the default."
        )


def correct(
    rng_key: RNGKey, log_weight: Float[Array, " num"], num_chains: int, correction: Correction
) -> Corrected:
    """Turn independent weighted draws into chains of one length.

    Args:
        rng_key: a JAX key.
        log_weight: log target minus log proposal, in nats.
        num_chains: number of chains.
        correction: `"metropolis"` for independence Metropolis chains, `"psis"` for resampling by
            Pareto-smoothed weights, `None` for the draws as they are. The first two need weights
            that `weights.require_usable` accepts.
    """
    return CORRECTIONS[correction](rng_key, log_weight, num_chains)


def _in_order(num: int, num_chains: int) -> Int[Array, "chain draw"]:
    """The numbers of all draws, cut into chains."""
    num_draws = num // num_chains
    left_over = num - num_chains * num_draws
    if left_over:
        python_warnings.warn(
            f"{num} draws do not divide into {num_chains} chains of one length: the last "
            f"{left_over} are left out. Draw a multiple of {num_chains}, or choose num_chains.",
            stacklevel=6,  # the line that called `to_inference_data`
        )
    return jnp.arange(num_chains * num_draws).reshape(num_chains, num_draws)


def _kept(rng_key: RNGKey, log_weight: Array, num_chains: int) -> Corrected:
    return _in_order(len(log_weight), num_chains), {}


def _resampled(rng_key: RNGKey, log_weight: Array, num_chains: int) -> Corrected:
    smoothed, _ = weights.pareto_smooth(log_weight)
    num_draws = len(log_weight) // num_chains
    picked = weights.resample_indices(rng_key, smoothed, num_chains * num_draws)
    return picked.reshape(num_chains, num_draws), {}


def _chained(rng_key: RNGKey, log_weight: Array, num_chains: int) -> Corrected:
    proposals = _in_order(len(log_weight), num_chains)
    chains = weights.independence_metropolis(rng_key, log_weight[proposals])
    indices = jnp.take_along_axis(proposals, chains.indices, axis=1)
    return indices, {
        "accepted": chains.accepted,
        "acceptance_rate": chains.acceptance_probability,
    }


CORRECTIONS: dict[str | None, Callable[[RNGKey, Array, int], Corrected]] = {
    "metropolis": _chained,
    "psis": _resampled,
    None: _kept,
}
"""The function that turns draws into chains, for each name of a correction."""
