"""Fit a mixture of normal distributions to points; the points say how many components."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import numbers_of_key
from numpyro_bridge._core.types import RNGKey

MAX_COMPONENTS = 8
"""Largest number of components."""

NUM_ITERATIONS = 40
"""Steps of expectation and maximisation."""


class NormalMixture(NamedTuple):
    """A mixture of normal distributions; the leading axis counts its components."""

    weight: Float[np.ndarray, " components"]
    location: Float[np.ndarray, "components dim"]
    factor: Float[np.ndarray, "components dim dim"]
    """Lower-triangular factors of the covariances."""


def numpy_generator(rng_key: RNGKey) -> np.random.Generator:
    """NumPy's randomness from a JAX key."""
    return np.random.default_rng(numbers_of_key(rng_key))


def fit_mixture(
    rng: np.random.Generator, points: Float[np.ndarray, "num dim"], most: int = MAX_COMPONENTS
) -> NormalMixture:
    """The mixture that explains points best by the Bayesian information criterion.

    Args:
        rng: Randomness of the first centres.
        points: One a row; roughly in standardised coordinates, since covariances are shrunk a
            little towards the identity times their own scale.
        most: Number of components at most.
    """
    num, dim = points.shape
    parameters = 1 + dim + dim * (dim + 1) / 2
    # A component needs twice as many points as there are dimensions, or its covariance is noise.
    most = max(1, min(most, num // (2 * (dim + 1))))
    candidates = [_fitted(rng, points, number) for number in range(1, most + 1)]
    criteria = [
        number * parameters * np.log(num) - 2 * log_likelihood
        for number, (_, log_likelihood) in enumerate(candidates, start=1)
    ]
    return candidates[int(np.argmin(criteria))][0]


def spread_out(
    rng: np.random.Generator, points: Float[np.ndarray, "num dim"], num: int
) -> np.ndarray:
    """Indices of points that are far apart: k-means++ (Arthur and Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(points)))]
    square = np.sum((points - points[chosen[0]]) ** 2, axis=1)
    while len(chosen) < num and square.sum() > 0:
        chosen.append(int(rng.choice(len(points), p=square / square.sum())))
        square = np.minimum(square, np.sum((points - points[chosen[-1]]) ** 2, axis=1))
    return np.asarray(chosen)


def _fitted(rng, points: np.ndarray, components: int) -> tuple[NormalMixture, float]:
    centres = points[spread_out(rng, points, components)]
    distance = np.sum((points[:, None] - centres) ** 2, axis=2)
    share = np.eye(len(centres))[np.argmin(distance, axis=1)]
    log_likelihood = -np.inf
    for _ in range(NUM_ITERATIONS):
        mixture = _maximised(points, share)
        log_parts = _log_parts(mixture, points)
        total = np.logaddexp.reduce(log_parts, axis=1)
        share = np.exp(log_parts - total[:, None])
        before, log_likelihood = log_likelihood, float(total.sum())
        if log_likelihood - before < 1e-4 * len(points):
            break
    return mixture, log_likelihood


def _maximised(points: np.ndarray, share: np.ndarray) -> NormalMixture:
    dim = points.shape[1]
    count = np.sum(share, axis=0) + 1e-9
    location = (share.T @ points) / np.expand_dims(count, 1)
    centred = np.expand_dims(points, 0) - np.expand_dims(location, 1)
    weighted = centred * np.expand_dims(share.T, 2)
    covariance = np.swapaxes(weighted, 1, 2) @ centred
    # One pseudo-observation for each dimension, of the size of the component's own variance.
    size = np.trace(covariance, axis1=1, axis2=2) / dim + 1e-6 * count
    covariance += (size * (1 + 0.5 * dim) / (count + 1))[:, None, None] * np.eye(dim)
    covariance /= (count + 1 + 0.5 * dim)[:, None, None]
    return NormalMixture(count / np.sum(count), location, np.linalg.cholesky(covariance))


def _log_parts(mixture: NormalMixture, points: np.ndarray) -> np.ndarray:
    parts = []
    for weight, location, factor in zip(*mixture, strict=True):
        whitened = np.linalg.inv(factor) @ (points - location).T
        log_det = np.sum(np.log(np.diagonal(factor)))
        parts.append(np.log(weight) - log_det - 0.5 * np.sum(whitened**2, axis=0))
    return np.stack(parts, axis=1) - 0.5 * points.shape[1] * np.log(2 * np.pi)
