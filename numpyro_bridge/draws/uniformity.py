r"""Whether ranks are uniform: an exact test and the band that belongs to it.

Of `num` ranks that are uniform on 0, …, `num_draws`, let $c_k$ be how many lie below k. Each $c_k$
is binomial with probability $k / (\text{num\_draws} + 1)$. The statistic is the smallest two-sided
tail probability over all k; the band holds the $c_k$ whose tail probability is not below a level,
and the level is that at which all $c_k$ are inside at once with the wanted probability.

That probability has a closed form. The numbers of ranks at each value are Poisson variables that
are conditioned on their sum. So the distribution of $c_k$, where all earlier ones stayed inside,
follows from that of $c_{k-1}$ by a convolution with a Poisson distribution.

Reference: Säilynoja, Bürkner and Vehtari (2022), arXiv:2103.10522, who find the same
probability by a recursion over binomial distributions.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

NUM_HALVINGS = 40
"""How often the interval is halved in which the level of a band lies."""

SMALLEST = 1e-12
"""A p-value below this is lost in rounding."""


def uniformity(ranks: Int[np.ndarray, " num"], num_draws: int) -> float:
    """P-value of ranks that should be uniform on 0, …, `num_draws`.

    It is the probability that uniform ranks have a statistic as small as that of these ranks. It is
    exact down to `SMALLEST`.

    Args:
        ranks: the ranks, at least one.
        num_draws: the largest rank that is possible.
    """
    counts = np.bincount(np.asarray(ranks), minlength=num_draws + 1)
    below, tails = np.cumsum(counts)[:-1], _tails(len(ranks), num_draws)
    observed = np.min(np.take_along_axis(tails, below[:, None], axis=1))
    # Tails that are equal may differ by rounding.
    inside = tails > observed * (1 + 1e-9)
    return float(np.clip(1 - _probability_inside(inside), SMALLEST, 1.0))


def simultaneous_band(
    num: int, num_draws: int, prob: float = 0.95
) -> Float[np.ndarray, "3 places"]:
    """The narrowest band that the shares of `num` uniform ranks stay inside everywhere.

    They do so with probability `prob`, or a little more, since counts are whole.

    Returns:
        Three rows: the places `k / (num_draws + 1)` for k from 1 to `num_draws`, and the smallest
        and the largest share of ranks below k that is inside.
    """
    inside = _tails(num, num_draws) >= _level(num, num_draws, prob)
    lower, upper = np.argmax(inside, axis=1), num - np.argmax(inside[:, ::-1], axis=1)
    return np.stack([_places(num_draws), lower / num, upper / num])


def _places(num_draws: int) -> Float[np.ndarray, " places"]:
    return np.arange(1, num_draws + 1) / (num_draws + 1)


@lru_cache
def _tails(num: int, num_draws: int) -> Float[np.ndarray, "places counts"]:
    """For each place and each possible count below it, the two-sided tail probability."""
    from scipy.stats import binom

    possible, places = np.arange(num + 1), _places(num_draws)[:, None]
    lower, upper = binom.cdf(possible, num, places), binom.sf(possible - 1, num, places)
    return 2 * np.minimum(lower, upper)


@lru_cache
def _level(num: int, num_draws: int, prob: float) -> float:
    """The largest level at which all counts are inside with at least this probability."""
    tails = _tails(num, num_draws)
    low, high = 0.0, 1.0  # everything is inside at zero
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        wide_enough = _probability_inside(tails >= middle) >= prob
        low, high = (middle, high) if wide_enough else (low, middle)
    return low


def _probability_inside(inside: Bool[np.ndarray, "places counts"]) -> float:
    """The probability that the count below every place is one of those that are marked there."""
    from scipy.stats import poisson

    num_places, num = inside.shape[0], inside.shape[1] - 1
    at_one_value = poisson.pmf(np.arange(num + 1), num / (num_places + 1))
    at_one_value = np.trim_zeros(at_one_value, "b")
    here = np.eye(1, num + 1)[0]  # nothing lies below zero
    for allowed in inside:
        here = np.where(allowed, np.convolve(here, at_one_value)[: num + 1], 0.0)
    total = np.convolve(here, at_one_value)[: num + 1][-1]
    return float(total / poisson.pmf(num, num))
