"""Ranks of true values among the draws given the data that were simulated from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core import weights
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.draws.corrections import Correction, correct
from numpyro_bridge.target import Target

LOG_JOINT = "log joint"
"""The name of the last test quantity, the log joint density of parameters and data."""

Below = Bool[Array | np.ndarray, "num quantities"]
"""Whether each draw lies below the true value: in every coordinate, and in its log joint density.
"""


class RankedRun(NamedTuple):
    """One run of a sampler on simulated data.

    Where it gave no draws, `ranks` is None and `failure` says why.
    """

    ranks: dict[str, Int[np.ndarray, "..."]] | None = None
    """By site, and under "log joint"."""
    ess: float = 0.0
    """Effective sample size, as a share of the draws that the sampler made."""
    num_effective: float = 0.0
    """Number of independent draws that those that were ranked are worth."""
    doubt: str = ""
    """Why the run is not trusted, by its own verdict; empty where it is."""
    failure: str = ""
    error: Exception | None = None
    weighted: bool = True
    """Whether the draws have weights, by which they can be corrected and judged."""
    seconds: float = 0.0


def below_truth(
    rng_key: RNGKey,
    position: Float[Array, "num dim"],
    log_density: Float[Array, " num"],
    true_position: Vector,
    true_log_density: Scalar,
) -> Below:
    """Whether draws lie below the true values; where they are equal, chance decides.

    Rounding makes values equal. Among `e` draws that equal the truth the number that counts as
    below is uniform on 0, …, `e`, as if they had been ordered by chance.

    Args:
        rng_key: A JAX key for values that are equal.
        position: Draws given the data, in unconstrained coordinates.
        log_density: Their log joint densities with the data, up to a constant.
        true_position: The position that the data were simulated from.
        true_log_density: Its log joint density, with the same constant.
    """
    values = jnp.concatenate([position, log_density[:, None]], axis=1)
    truth = jnp.append(true_position, true_log_density)
    truth_key, draws_key = jax.random.split(rng_key)
    first = jax.random.uniform(draws_key, values.shape) < jax.random.uniform(truth_key, truth.shape)
    return (values < truth) | ((values == truth) & first)


def rank(
    rng_key: RNGKey,
    below: Below,
    log_weight: Float[Array | np.ndarray, " num"],
    num_draws: int,
    correction: Correction,
) -> Int[np.ndarray, " quantities"]:
    """Correct draws, thin them to `num_draws`, and count those below the truth.

    Args:
        rng_key: A JAX key for the correction.
        below: Which draws lie below the truth, in the order in which the sampler made them.
        log_weight: Their log weights, in nats; equal for draws that have none.
        num_draws: How many draws the ranks are among, at most as many as there are.
        correction: As in `to_inference_data`.

    Raises:
        ValueError: if a correction needs the weights and they are NaN, infinite or all zero.
    """
    if correction is not None:
        weights.require_usable(log_weight)
    chains, _ = correct(rng_key, jnp.asarray(log_weight), 1, correction)
    (chain,) = np.asarray(chains)
    spread = np.arange(num_draws) * len(chain) // num_draws
    return np.sum(np.asarray(below)[chain[spread]], axis=0)


def by_site(target: Target, ranks: Int[np.ndarray, " quantities"]) -> dict[str, np.ndarray]:
    """Ranks of the coordinates of a position by site, and that of the log joint density."""
    sites = target.by_site(jnp.asarray(ranks[:-1], jnp.result_type(float)))
    whole = {name: np.asarray(values).astype(int) for name, values in sites.items()}
    return {**whole, LOG_JOINT: np.asarray(ranks[-1])}
