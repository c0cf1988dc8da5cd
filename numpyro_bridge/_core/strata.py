"""Weights of draws that were made in fixed shares, one for each stratum, such as a chart."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from numpyro_bridge._core.weights import require_usable


def stratified_log_evidence(
    log_weight: Float[np.ndarray, " num"], stratum: Int[np.ndarray, " num"]
) -> tuple[float, float]:
    """`log_evidence` of draws that were made in fixed shares, one for each stratum.

    All sums are in double precision. Choosing the stratum added no noise, so that the variance is
    that within the strata. Where a
    stratum has a single draw, its variance is not known, and that of all draws takes its place.

    Args:
        log_weight: log target minus log proposal, in nats.
        stratum: The number of the stratum of each draw.
    """
    value = np.asarray(log_weight, np.float64)
    if np.any(np.isnan(value)):
        return np.nan, np.nan
    estimate = float(np.logaddexp.reduce(value) - np.log(value.size))
    if not np.isfinite(estimate):
        return estimate, np.nan
    weight = np.exp(value - estimate)
    if value.size == 1:
        return estimate, np.inf
    if np.any(np.bincount(stratum) == 1):
        return estimate, float(np.std(weight, ddof=1) / np.sqrt(value.size))
    return estimate, float(np.sqrt(np.sum(_variance_of_sum(weight, stratum, 0.0))) / value.size)


def _variance_of_sum(value: np.ndarray, stratum: np.ndarray, of_one) -> np.ndarray:
    """The variance of the sum of the values in each stratum, by the spread within it.

    The variance of a single draw cannot be known from itself; `of_one` takes its place.
    """
    count = np.bincount(stratum)
    mean = np.bincount(stratum, value) / np.maximum(count, 1)
    square = np.bincount(stratum, (value - mean[stratum]) ** 2)
    variance = square * count / np.maximum(count - 1, 1)
    return np.where(count == 1, of_one, variance)


def stratified_elbo(
    log_weight: Float[np.ndarray, " num"], stratum: Int[np.ndarray, " num"]
) -> tuple[float, float]:
    """The bound of draws that were made in fixed shares: log of the sum of exp(ELBO) of the strata.

    It is what the ELBO of all draws would be if every stratum had the best share.

    Args:
        log_weight: log target minus log proposal, in nats, the share of the stratum included.
        stratum: The number of the stratum of each draw.
    """
    value = np.asarray(log_weight, np.float64)
    if np.any(np.isnan(value)):
        return np.nan, np.nan
    count = np.bincount(stratum)
    present = count > 0
    total, count = np.bincount(stratum, value)[present], count[present]
    elbos = total / count + np.log(count / value.size)
    bound = float(np.logaddexp.reduce(elbos))
    if not np.all(np.isfinite(value)):
        return bound, np.nan
    of_one = np.var(value) if value.size > 1 else np.inf
    variance = _variance_of_sum(value, stratum, of_one)[present]
    return bound, float(np.sqrt(np.sum(np.exp(2 * (elbos - bound)) * variance / count**2)))


class Masses(NamedTuple):
    """The share of the posterior mass on each chart, and its standard error."""

    mass: Float[np.ndarray, " charts"]
    error: Float[np.ndarray, " charts"]


def masses(log_weight: Float[np.ndarray, " num"], stratum: Int[np.ndarray, " num"]) -> Masses:
    """The share of all weight in each stratum, with errors by the delta method.

    Raises:
        ValueError: if a weight is NaN or infinite.
    """
    require_usable(np.asarray(log_weight))
    value = np.asarray(log_weight, np.float64)
    weight = np.exp(value - np.logaddexp.reduce(value))
    mass = np.bincount(stratum, weight)
    variance = _variance_of_sum(weight, stratum, mass**2)
    return Masses(mass, np.sqrt((1 - 2 * mass) * variance + mass**2 * np.sum(variance)))
