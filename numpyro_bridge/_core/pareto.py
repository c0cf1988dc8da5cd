"""The generalised Pareto distribution: its fit to exceedances, and its quantiles.

ArviZ and BlackJAX have this fit too. It is written out here since it judges every run: importing
one of them takes longer than the fit, and so does compiling the other.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

PRIOR_WEIGHT, PRIOR_SHAPE = 10, 0.5
"""The fitted shape is shrunk towards one half, as if so many more exceedances had said so."""


class Pareto(NamedTuple):
    """A generalised Pareto distribution of exceedances, with tails like `x^(-1 / shape)`."""

    shape: float
    scale: float

    def quantile(self, probability: Float[np.ndarray, " num"]) -> Float[np.ndarray, " num"]:
        """The exceedances below which the distribution has these probabilities."""
        log_rest = np.log1p(-probability)
        if abs(self.shape) < 1e-12:
            return -self.scale * log_rest
        with np.errstate(over="ignore"):  # the tail may be so heavy that a quantile is infinite
            return self.scale * np.expm1(-self.shape * log_rest) / self.shape


def fit_pareto(excess: Float[np.ndarray, " num"]) -> Pareto:
    r"""Fit to exceedances, which are positive and sorted, by the mean of a profile likelihood.

    With the shape $k$ and the scale $\sigma$, the likelihood is a function of $b = -k / \sigma$
    once the best shape for each $b$ is put in. The estimate is the mean of $b$ over a grid,
    weighted by this likelihood (Zhang and Stephens 2009, doi:10.1198/tech.2009.08017). A weak prior
    then shrinks the shape (Vehtari et al. 2024, arXiv:1507.02646).
    """
    num = len(excess)
    num_grid = 30 + int(num**0.5)
    quartile = excess[int(num / 4 + 0.5) - 1]
    with np.errstate(all="ignore"):  # ties may leave no tail to fit, and a shape that is NaN
        steps = 1 - np.sqrt(num_grid / (np.arange(num_grid) + 0.5))
        grid = 1 / excess[-1] + steps / (3 * quartile)
        shape = np.mean(np.log1p(-grid[:, None] * excess), axis=1)
        log_likelihood = num * (np.log(-grid / shape) - shape - 1)
        weight = np.exp(log_likelihood - np.max(log_likelihood))
        best = np.sum(grid * weight) / np.sum(weight)
        shape = float(np.mean(np.log1p(-best * excess)))
        scale = -shape / best
    shape = (num * shape + PRIOR_WEIGHT * PRIOR_SHAPE) / (num + PRIOR_WEIGHT)
    return Pareto(shape, float(scale))
