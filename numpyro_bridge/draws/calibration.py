"""Calibration: whether true values rank uniformly among the draws given their data."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from jaxtyping import Float, Int

NUM_NULL = 9_999
"""Number of sets of uniform ranks that are simulated for a p-value."""

SMALL = 0.01
"""Below this corrected p-value, draws count as miscalibrated."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """Simulation-based calibration: ranks of true values among the draws given their data.

    If the draws are from the posterior, the true value and the draws are exchangeable, and the rank
    is uniform on 0, …, `num_draws`. Draws that are too narrow make ranks pile up at both ends,
    draws that are too wide in the middle, and biased draws at one end; see `plots.plot_ranks`.
    Draws from the prior, or others that ignore the data, also give uniform ranks of the parameters;
    the ranks of the log joint density reveal them.

    Attributes:
        ranks: for each latent site the ranks of its unconstrained values, shape (num_simulations,
            ...), and under `"log joint"` the ranks of the log joint density.
        num_draws: number of draws for each simulation.
        ess: effective sample size given each simulated data set, as a share of its draws.
        corrected: whether the draws were resampled by their weights.
        sampling_time: seconds that simulating and drawing took, or None if they were not timed.

    Reference: Talts et al. (2018), arXiv:1804.06788; the log joint, Modrák et al. (2023),
    arXiv:2211.02383; the test of uniformity, Säilynoja et al. (2022), arXiv:2103.10522.
    """

    ranks: dict[str, Int[np.ndarray, "num_simulations ..."]]
    num_draws: int
    ess: Float[np.ndarray, " num_simulations"]
    corrected: bool
    sampling_time: float | None = None

    @property
    def num_simulations(self) -> int:
        """Number of data sets that were simulated."""
        return len(self.ess)

    @cached_property
    def parameters(self) -> dict[str, Int[np.ndarray, " num_simulations"]]:
        """The ranks of each number, by a label such as `"tau"` or `"theta[3]"`."""
        return dict(_scalars(self.ranks))

    @cached_property
    def p_values(self) -> dict[str, float]:
        """For each label, the probability of ranks as uneven as these if draws are calibrated."""
        return {label: uniformity(x, self.num_draws) for label, x in self.parameters.items()}

    @property
    def p_value(self) -> float:
        """The p-value of all labels together: the smallest one times their number (Bonferroni)."""
        return min(1.0, min(self.p_values.values()) * len(self.p_values))

    def __repr__(self) -> str:
        """Say what is inside, not every number."""
        return f"Calibration(num_simulations={self.num_simulations}, p_value={self.p_value:.3g})"

    def __str__(self) -> str:
        """A table of mean ranks and p-values, and a conclusion in words."""
        return "\n".join(_lines(self))


def _scalars(ranks: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for name, values in ranks.items():
        for index in product(*map(range, values.shape[1:])):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            yield label, values[(slice(None), *index)]


def _lines(calibration: Calibration) -> Iterator[str]:
    kind = "corrected draws" if calibration.corrected else "draws"
    yield f"Ranks of {calibration.num_simulations} simulations among {calibration.num_draws} {kind}"
    width = max([10, *map(len, calibration.parameters)])
    yield f"{'':>{width}} {'mean':>9} {'spread':>9} {'p-value':>9}"
    for label, ranks in calibration.parameters.items():
        # Ranks as middles of equal parts of (0, 1): calibrated ones have mean 1/2 and spread 1.
        shares = (ranks + 0.5) / (calibration.num_draws + 1)
        spread = np.std(shares) * np.sqrt(12 / (1 - (calibration.num_draws + 1.0) ** -2))
        p_value = calibration.p_values[label]
        yield f"{label:>{width}} {np.mean(shares):>9.3f} {spread:>9.3f} {p_value:>9.4f}"
    low, median = np.quantile(calibration.ess, [0.1, 0.5])
    yield f"ESS given simulated data: median {median:.2f}, above {low:.2f} for nine in ten"
    if calibration.p_value < SMALL:
        yield f"Not calibrated: p = {calibration.p_value:.2g} for all parameters together."
    else:
        yield f"No sign of miscalibration: p = {calibration.p_value:.2g} for all together."


def uniformity(ranks: Int[np.ndarray, " num"], num_draws: int) -> float:
    """P-value of ranks that should be uniform on 0, …, `num_draws`.

    At each place, the empirical distribution function of the ranks has a two-sided binomial tail
    probability. The statistic is the smallest of them over all places. It is compared with the same
    statistic of uniform ranks, simulated with a fixed seed; the smallest p-value is 1e-4.

    Reference: Säilynoja, Bürkner and Vehtari (2022), arXiv:2103.10522.
    """
    counts = np.bincount(np.asarray(ranks), minlength=num_draws + 1)
    observed = _smallest_tail(counts[None], num_draws)[0]
    null = _null_tails(len(ranks), num_draws)
    return float((1 + np.sum(null <= observed)) / (1 + len(null)))


def simultaneous_band(
    num: int, num_draws: int, prob: float = 0.95
) -> Float[np.ndarray, "3 places"]:
    """The band that the distribution function of `num` uniform ranks stays inside everywhere.

    It does so with probability `prob`.

    Returns:
        Three rows: the places `k / (num_draws + 1)` for k from 1 to `num_draws`, and the lower and
        the upper ends of the band there.
    """
    from scipy.stats import binom

    tail = np.quantile(_null_tails(num, num_draws), 1 - prob) / 2
    places = _places(num_draws)
    lower, upper = binom.ppf(tail, num, places), binom.isf(tail, num, places)
    return np.stack([places, lower / num, upper / num])


def _places(num_draws: int) -> Float[np.ndarray, " places"]:
    return np.arange(1, num_draws + 1) / (num_draws + 1)


@lru_cache
def _null_tails(num: int, num_draws: int) -> Float[np.ndarray, " sets"]:
    uniform = np.full(num_draws + 1, 1 / (num_draws + 1))
    counts = np.random.default_rng(0).multinomial(num, uniform, size=NUM_NULL)
    return _smallest_tail(counts, num_draws)


def _smallest_tail(counts: Int[np.ndarray, "sets ranks"], num_draws: int) -> np.ndarray:
    """For each set of ranks, twice the smallest binomial tail probability over all places."""
    from scipy.stats import binom

    num = int(np.sum(counts[0]))
    below = np.cumsum(counts, axis=1)[:, :-1]
    possible, places = np.arange(num + 1)[:, None], _places(num_draws)
    lower, upper = binom.cdf(possible, num, places), binom.sf(possible - 1, num, places)
    tail = np.minimum(lower, upper)
    return 2 * np.min(np.take_along_axis(tail, below, axis=0), axis=1)
