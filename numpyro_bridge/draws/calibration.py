"""Calibration: whether the ranks of true values among draws are uniform, as they should be."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from jaxtyping import Float, Int

NUM_NULL = 9_999
"""Uniform sets of ranks that a p-value is measured against."""

SMALL = 0.01
"""The smallest p-value, corrected for their number, counts as miscalibration if below it."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """Simulation-based calibration: ranks of true values among draws given their data.

    Where draws are of the posterior, the true value and the draws are exchangeable, and the rank is
    uniform on 0, …, `num_draws`. Ranks that pile up at both ends show draws that are too narrow, in
    the middle too wide, at one end biased; `plots.plot_ranks` shows them. The law of the prior
    would pass for the parameters; the ranks of the log joint density catch it, and whatever else
    ignores the data.

    Attributes:
        ranks: latent site to ranks of its unconstrained values, shape (num_simulations, ...), and
            `"log joint"`.
        num_draws: draws for each simulation.
        ess: effective share of the draws given each of the simulated data sets, by their weights.
        corrected: whether the draws were resampled by these weights.
        sampling_time: seconds that simulating and drawing took, if they were timed.

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
        """Data sets that were simulated."""
        return len(self.ess)

    @cached_property
    def parameters(self) -> dict[str, Int[np.ndarray, " num_simulations"]]:
        """Ranks by label, such as `"tau"` or `"theta[3]"`."""
        return dict(_scalars(self.ranks))

    @cached_property
    def p_values(self) -> dict[str, float]:
        """Probability of ranks as uneven as these, by label, if the draws are of the posterior."""
        return {label: uniformity(x, self.num_draws) for label, x in self.parameters.items()}

    @property
    def p_value(self) -> float:
        """The smallest of them, times their number (Bonferroni)."""
        return min(1.0, min(self.p_values.values()) * len(self.p_values))

    def __repr__(self) -> str:
        """Say what is inside, not every number."""
        return f"Calibration(num_simulations={self.num_simulations}, p_value={self.p_value:.3g})"

    def __str__(self) -> str:
        """A table of mean ranks and p-values, and what they mean."""
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
        # Middles of equal parts of the unit interval: mean 1/2, spread relative to the uniform one.
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

    The statistic is the smallest two-sided binomial tail of their distribution function over all
    places, and its law is that of uniform ranks, simulated with a fixed seed: the least p-value is
    1e-4.

    Reference: Säilynoja, Bürkner and Vehtari (2022), arXiv:2103.10522.
    """
    counts = np.bincount(np.asarray(ranks), minlength=num_draws + 1)
    observed = _smallest_tail(counts[None], num_draws)[0]
    null = _null_tails(len(ranks), num_draws)
    return float((1 + np.sum(null <= observed)) / (1 + len(null)))


def simultaneous_band(
    num: int, num_draws: int, prob: float = 0.95
) -> Float[np.ndarray, "3 places"]:
    """Where the distribution function of `num` uniform ranks stays everywhere, with probability.

    Returns:
        Places, the shares below `1, …, num_draws` of `num_draws + 1`, and lower and upper ends.
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
    """Twice the smaller binomial tail of each distribution function, at its worst place."""
    from scipy.stats import binom

    num = int(np.sum(counts[0]))
    below = np.cumsum(counts, axis=1)[:, :-1]
    possible, places = np.arange(num + 1)[:, None], _places(num_draws)
    lower, upper = binom.cdf(possible, num, places), binom.sf(possible - 1, num, places)
    tail = np.minimum(lower, upper)
    return 2 * np.min(np.take_along_axis(tail, below, axis=0), axis=1)
