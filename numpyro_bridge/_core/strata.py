"""Weights of draws that were made in fixed shares, one for each stratum, such as a chart."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from numpyro_bridge._core.weights import log_evidence


def stratified_log_evidence(
    log_weight: Float[np.ndarray, " num"], stratum: Int[np.ndarray, " num"]
) -> tuple[float, float]:
    """`log_evidence` of draws that were made in fixed shares, one for each stratum.

    Choosing the stratum added no noise, so that the variance is that within the strata. Where a
    stratum has a single draw, its variance is not known, and that of all draws takes its place.

    Args:
        log_weight: log target minus log proposal, in nats.
        stratum: The number of the stratum of each draw.
    """
    estimate, error = map(float, log_evidence(jnp.asarray(log_weight)))
    weight = np.exp(np.asarray(log_weight, np.float64) - estimate)
    count = np.bincount(stratum)
    if not np.isfinite(estimate) or np.any(count == 1):
        return estimate, error
    count = np.maximum(count, 1)
    mean = np.bincount(stratum, weight) / count
    square = np.bincount(stratum, (weight - mean[stratum]) ** 2)
    variance = square * count / np.maximum(count - 1, 1)
    return estimate, float(np.sqrt(np.sum(variance)) / weight.size)


def stratified_elbo(
    log_weight: Float[np.ndarray, " num"], stratum: Int[np.ndarray, " num"]
) -> tuple[float, float]:
    """The bound of draws that were made in fixed shares: log of the sum of exp(ELBO) of the strata.

    It is what the ELBO of all draws would be if every stratum had the best share.

    Args:
        log_weight: log target minus log proposal, in nats, the share of the stratum included.
        stratum: The number of the stratum of each draw.
    """
    count = np.bincount(stratum)
    present = count > 0
    count = count[present]
    share = count / len(stratum)
    value = np.asarray(log_weight, np.float64)
    mean = np.bincount(stratum, value)[present] / count
    centred = value - np.bincount(stratum, value)[stratum] / np.bincount(stratum)[stratum]
    variance = np.bincount(stratum, centred**2)[present] / np.maximum(count - 1, 1) / count
    elbos = mean + np.log(share)
    bound = float(np.logaddexp.reduce(elbos))
    return bound, float(np.sqrt(np.sum(np.exp(2 * (elbos - bound)) * variance)))


class Masses(NamedTuple):
    """The share of the posterior mass on each chart, and its standard error."""

    mass: Float[np.ndarray, " charts"]
    error: Float[np.ndarray, " charts"]


def masses(log_weight: Float[np.ndarray, " num"], stratum: Int[np.ndarray, " num"]) -> Masses:
    """The share of all weight in each stratum, with errors by the delta method."""
    value = np.asarray(log_weight, np.float64)
    weight = np.exp(value - np.logaddexp.reduce(value)) * value.size
    count = np.maximum(np.bincount(stratum), 1)
    mass = np.bincount(stratum, weight) / value.size
    centred = weight - (np.bincount(stratum, weight) / count)[stratum]
    # The variance of each stratum's sum of weights; a stratum of one draw has an unknown one.
    variance = np.bincount(stratum, centred**2) * count / np.maximum(count - 1, 1) / value.size**2
    variance = np.where(count == 1, mass**2, variance)
    total = variance.sum()
    return Masses(mass, np.sqrt((1 - 2 * mass) * variance + mass**2 * total))
