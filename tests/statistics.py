"""Comparisons that allow for noise and for nothing else."""

import numpy as np


def z_scores(a, b) -> np.ndarray:
    """Difference of two means over axis 0, in standard errors.

    `b` may be a number: then it is known exactly.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    variance = np.var(a, axis=0, ddof=1) / len(a)
    if b.ndim:
        variance = variance + np.var(b, axis=0, ddof=1) / len(b)
    difference = np.mean(a, axis=0) - (np.mean(b, axis=0) if b.ndim else b)
    # Where neither varies, agreement to rounding is agreement.
    return difference / np.sqrt(np.maximum(variance, 1e-24))


def assert_same_mean(a, b, max_z: float = 5.0) -> None:
    """Fail where two sets of independent draws (rows) have different means, or one is not `b`."""
    z = np.max(np.abs(z_scores(a, b)))
    assert z < max_z, f"the means differ by {z:.1f} standard errors"


def assert_mean_at_most(a, bound: float, max_z: float = 3.0) -> None:
    """Fail where the mean of independent draws is above `bound`, beyond noise."""
    z = float(z_scores(a, bound))
    assert z < max_z, f"the mean is {z:.1f} standard errors above its bound"


def assert_same_weighted_mean(values, log_weight, expected: float, max_z: float = 5.0) -> None:
    """Fail where the self-normalised average of weighted draws is not `expected`."""
    log_weight = np.asarray(log_weight, float)
    weight = np.exp(log_weight - np.max(log_weight))
    weight /= np.sum(weight)
    values = np.asarray(values, float)
    mean = weight @ values
    error = np.sqrt(np.sum(weight**2 * (values - mean) ** 2))
    z = abs(mean - expected) / error
    assert z < max_z, f"the weighted mean {mean:.4f} is {z:.1f} standard errors from {expected:.4f}"
