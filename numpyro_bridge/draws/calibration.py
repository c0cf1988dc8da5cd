"""Calibration: whether true values rank uniformly among the draws given their data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from numpyro_bridge._core.checks import check_count
from numpyro_bridge.draws.corrections import Correction
from numpyro_bridge.draws.ranking import LOG_JOINT, RankedRun
from numpyro_bridge.draws.uniformity import uniformity
from numpyro_bridge.draws.verdict import Verdict

SMALL = 0.01
"""Below this corrected p-value, draws count as miscalibrated."""

FEWEST = 20
"""With fewer simulations, or ranks among fewer draws, hardly anything could be seen."""

MOST_NAMED = 3
"""Parameters that the verdict names, those of the smallest p-values."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """Simulation-based calibration: ranks of true values among the draws given their data.

    >>> calibration = nb.calibrate(sampler, model, key, x, num_simulations=20)
    >>> calibration.verdict.trustworthy
    True

    If the draws are from the posterior, the true value and the draws are exchangeable, and the rank
    is uniform on 0, …, `num_draws`. Draws that are too narrow make ranks pile up at both ends,
    draws that are too wide in the middle, and biased draws at one end; see `plots.plot_ranks`.
    Draws from the prior, or others that ignore the data, also give uniform ranks of the parameters;
    the ranks of the log joint density reveal them.

    Every run that gave draws is ranked, whether its own verdict trusts it or not. Which draws are
    trusted depends on the data and not on the true values, so that the ranks of trusted runs alone,
    `of_trusted()`, should be uniform as well.

    Attributes:
        ranks: for each latent site the ranks of its unconstrained values, shape (num_ranked, ...),
            and under `"log joint"` the ranks of the log joint density.
        num_draws: number of draws for each simulation that the ranks are among.
        ess: effective sample size given each simulated data set, as a share of its draws.
        correction: how the draws were corrected, as in `to_inference_data`.
        num_effective: for each run the number of independent draws that those that were ranked are
            worth; None where all of them are independent.
        doubts: for each run why its own verdict does not trust it, empty where it does; None where
            nobody judged the runs.
        failures: for each run without draws, the error.
        num_replaced: simulations that had numbers that are not finite, in place of which others
            were taken.
        seconds: seconds of each run, or of all together; None if they were not timed.

    Reference: Talts et al. (2018), arXiv:1804.06788; the log joint, Modrák et al. (2023),
    arXiv:2211.02383; the test of uniformity, Säilynoja et al. (2022), arXiv:2103.10522.
    """

    ranks: dict[str, Int[np.ndarray, "num_ranked ..."]]
    num_draws: int
    ess: Float[np.ndarray, " num_ranked"]
    correction: Correction
    num_effective: Float[np.ndarray, " num_ranked"] | None = None
    doubts: tuple[str, ...] | None = None
    failures: tuple[str, ...] = ()
    num_replaced: int = 0
    seconds: Float[np.ndarray, " timed"] | None = None

    @property
    def num_simulations(self) -> int:
        """Number of data sets that were simulated and given to the sampler."""
        return len(self.ess) + len(self.failures)

    @property
    def num_doubted(self) -> int:
        """Number of runs that their own verdicts do not trust; they are ranked like the others."""
        return sum(map(bool, self.doubts or ()))

    @property
    def num_short(self) -> int:
        """Number of runs whose ranks are among draws that depend on each other too much.

        That is, which are worth fewer than a quarter as many independent ones. Among a hundred
        draws that are worth 25 the ranks of an exact sampler spread by 3 % more than they should.
        """
        if self.num_effective is None:
            return 0
        return int(np.sum(self.num_effective < 0.25 * self.num_draws))

    @property
    def sampling_time(self) -> float | None:
        """Seconds that all runs took, or None if they were not timed."""
        return None if self.seconds is None else float(np.sum(self.seconds))

    @cached_property
    def parameters(self) -> dict[str, Int[np.ndarray, " num_ranked"]]:
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

    @property
    def verdict(self) -> Verdict:
        """Whether the sampler gives the posterior, as far as the simulations show, and why."""
        trustworthy = self.p_value >= SMALL and not self.failures
        return Verdict(trustworthy, " ".join(_sentences(self)))

    def of_trusted(self) -> "Calibration":
        """The same of those runs alone that their own verdicts trust.

        Raises:
            ValueError: if no run is trusted, or nobody judged them.
        """
        if self.doubts is None or self.num_doubted == len(self.doubts):
            raise ValueError("there is no run that is trusted by its own verdict")
        trusted = np.asarray([not doubt for doubt in self.doubts])
        return replace(
            self,
            ranks={name: value[trusted] for name, value in self.ranks.items()},
            ess=self.ess[trusted],
            num_effective=None if self.num_effective is None else self.num_effective[trusted],
            doubts=("",) * int(np.sum(trusted)),
            failures=(),
            seconds=None,
        )

    def __repr__(self) -> str:
        """Say what is inside, not every number."""
        return f"Calibration(num_simulations={self.num_simulations}, p_value={self.p_value:.3g})"

    def __str__(self) -> str:
        """A table of mean ranks and p-values, and a conclusion in words."""
        return "\n".join(_lines(self))


def calibration_of(
    runs: Sequence[RankedRun],
    num_draws: int,
    correction: Correction,
    *,
    judged: bool = True,
    num_replaced: int = 0,
) -> Calibration:
    """Collect the ranks of runs on simulated data.

    Args:
        runs: The runs, at least one of them with draws.
        num_draws: Number of draws that each rank is among.
        correction: How the draws were corrected.
        judged: Whether the runs have verdicts of their own.
        num_replaced: Simulations in place of which others were taken.

    Raises:
        ValueError: if no run gave draws.
    """
    ranked = [run for run in runs if run.ranks is not None]
    failures = tuple(run.failure for run in runs if run.ranks is None)
    if not ranked:
        raise ValueError(f"none of {len(runs)} runs gave draws to rank: {failures[0]}")
    tables = [run.ranks for run in ranked if run.ranks is not None]
    return Calibration(
        ranks={name: np.stack([table[name] for table in tables]) for name in tables[0]},
        num_draws=num_draws,
        ess=np.asarray([run.ess for run in ranked], float),
        correction=correction,
        num_effective=np.asarray([run.num_effective for run in ranked], float),
        doubts=tuple(run.doubt for run in ranked) if judged else None,
        failures=failures,
        num_replaced=num_replaced,
        seconds=np.asarray([run.seconds for run in runs], float),
    )


def checked_numbers(num_simulations: Any, num_draws: Any) -> tuple[int, int]:
    """The numbers of simulations and of draws given each; a ValueError unless they are enough."""
    simulations = check_count("num_simulations", num_simulations, FEWEST)
    return simulations, check_count("num_draws", num_draws, FEWEST)


# --- in words -------------------------------------------------------------------------------------


def _scalars(ranks: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for name, values in ranks.items():
        for index in product(*map(range, values.shape[1:])):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            yield label, values[(slice(None), *index)]


def _mean_and_spread(ranks: np.ndarray, num_draws: int) -> tuple[float, float]:
    """Of ranks as middles of equal parts of (0, 1): calibrated ones have mean 1/2 and spread 1."""
    shares = (ranks + 0.5) / (num_draws + 1)
    spread = np.std(shares) * np.sqrt(12 / (1 - (num_draws + 1.0) ** -2))
    return float(np.mean(shares)), float(spread)


def _lines(calibration: Calibration) -> Iterator[str]:
    num, kind = (
        len(calibration.ess),
        "draws" if calibration.correction is None else "corrected draws",
    )
    yield f"Ranks of {num} simulations among {calibration.num_draws} {kind}"
    width = max([10, *map(len, calibration.parameters)])
    yield f"{'':>{width}} {'mean':>9} {'spread':>9} {'p-value':>9}"
    for label, ranks in calibration.parameters.items():
        mean, spread = _mean_and_spread(ranks, calibration.num_draws)
        p_value = calibration.p_values[label]
        yield f"{label:>{width}} {mean:>9.3f} {spread:>9.3f} {p_value:>9.2g}"
    low, median = np.quantile(calibration.ess, [0.1, 0.5])
    yield f"ESS given simulated data: median {median:.2f}, above {low:.2f} for nine in ten"
    if calibration.seconds is not None and len(calibration.seconds) > 1:
        first, *others = calibration.seconds
        median = np.median(others)
        yield f"{first:.1f} seconds for the first run, a median of {median:.2f} for the others"
    yield from _sentences(calibration)


def _sentences(calibration: Calibration) -> Iterator[str]:
    """The verdict, a sentence or two for each thing that there is to say."""
    p_value, num = calibration.p_value, calibration.num_simulations
    if p_value < SMALL:
        named = ", ".join(_faults(calibration))
        yield f"Not calibrated: p = {p_value:.2g} for all parameters together ({named})."
    else:
        yield f"No sign of miscalibration: p = {p_value:.2g} for all together."
    if calibration.failures:
        yield (
            f"{len(calibration.failures)} of {num} runs gave no draws, so that nothing is known of "
            f"such data: {calibration.failures[0]}"
        )
    if calibration.num_doubted:
        yield _of_doubted(calibration)
    if calibration.num_short:
        yield (
            f"In {calibration.num_short} of {num} runs the {calibration.num_draws} draws are worth "
            "less than a quarter as many independent ones, and their ranks are uneven even if "
            "the sampler is exact: make more draws (num_samples), or rank fewer (num_draws)."
        )
    if calibration.num_replaced:
        yield (
            f"{calibration.num_replaced} simulations had numbers that are not finite, and others "
            "took their place."
        )


def _of_doubted(calibration: Calibration) -> str:
    num_doubted, num = calibration.num_doubted, calibration.num_simulations
    by_whom = "is not trusted by its" if num_doubted == 1 else "are not trusted by their"
    text = f"{num_doubted} of {num} runs {by_whom} own verdict, and ranked with all"
    if num_doubted == len(calibration.ess):
        return f"{text}."
    trusted = calibration.of_trusted()
    return f"{text}; p = {trusted.p_value:.2g} for the {len(trusted.ess)} that are."


def _faults(calibration: Calibration) -> Iterator[str]:
    """What is wrong with the parameters of the smallest p-values."""
    p_values = calibration.p_values
    worst = sorted(p_values, key=lambda label: p_values[label])
    bad = [label for label in worst if p_values[label] * len(p_values) < SMALL]
    for label in bad[:MOST_NAMED]:
        mean, spread = _mean_and_spread(calibration.parameters[label], calibration.num_draws)
        yield f"{label}: {_fault(label, mean, spread, len(calibration.ess))}"
    if len(bad) > MOST_NAMED:
        yield f"and {len(bad) - MOST_NAMED} more"


def _fault(label: str, mean: float, spread: float, num: int) -> str:
    """The direction of the largest departure, in words."""
    # Standard errors of both under uniform ranks.
    off_centre, off_spread = (mean - 0.5) * np.sqrt(12 * num), (spread - 1) * np.sqrt(5 * num)
    if max(abs(off_centre), abs(off_spread)) < 2:
        return "ranks uneven"
    if label == LOG_JOINT:
        if abs(off_spread) > abs(off_centre):
            return "draws too alike" if off_spread > 0 else "draws too unlike each other"
        return (
            "draws less probable than the truth, as if too wide or of other data"
            if off_centre > 0
            else "draws more probable than the truth, as if too narrow"
        )
    if abs(off_spread) > abs(off_centre):
        return "draws too narrow" if off_spread > 0 else "draws too wide"
    return "draws too low" if off_centre > 0 else "draws too high"
