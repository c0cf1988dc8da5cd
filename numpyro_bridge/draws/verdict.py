"""The verdict on draws: whether they can be trusted, and the reasons in words."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from numpyro_bridge._core import weights

MAX_PARETO_K = 0.7
"""Above this k-hat, no practical number of draws makes up for what the sampler misses."""

GOOD_PARETO_K = 0.5
"""Below this k-hat, weights have a finite variance, and averages an error that can be stated."""

MAX_TAIL_SHARE = 0.02
"""A tail that carries less of the mass does no harm, whatever its k-hat is."""

LARGE_TAIL_SHARE = 0.05
"""A tail that carries more of the mass is heavy, whatever its k-hat is."""

MIN_EFFECTIVE_DRAWS = 100
"""With fewer effective draws, means have errors above a tenth of the posterior's deviation."""

ENOUGH_DRAWS = 4_000
"""The tail of the weights of so many draws is no matter of chance."""

MAX_NON_FINITE_SHARE = 0.01
"""Above this share of trajectories that were not finite somewhere, the verdict has a doubt."""


class ReliabilityWarning(UserWarning):
    """The draws cannot be trusted to represent the posterior.

    >>> import warnings
    >>> with warnings.catch_warnings(action="error", category=nb.ReliabilityWarning):
    ...     draws.warn_if_unreliable()  # an error where the draws are not to be trusted
    """


class Verdict(NamedTuple):
    """Whether the draws are trustworthy without reservation, and the reasons in words.

    >>> if not draws.verdict.trustworthy:
    ...     print(draws.verdict.text)
    """

    trustworthy: bool
    text: str


class Seen(NamedTuple):
    """The facts that a verdict is based on."""

    num_samples: int
    num_unusable: int
    """Number of log weights that are NaN or +inf; all of them if none is finite."""
    num_non_finite: int
    """Number of trajectories that met a density or score that was not finite."""
    ess: float
    """Effective sample size as a share of the draws."""
    pareto_k: float
    tail_share: float
    """The share of all weight that the heaviest draw and those beyond it may carry."""
    warnings: tuple[str, ...]
    """Faults that the weights cannot show, in whole sentences."""
    notes: tuple[str, ...] = ()
    """What nobody looked for, in whole sentences; that is no reason for doubt."""

    @property
    def num_effective(self) -> float:
        """How many independent draws from the posterior the weighted draws are worth."""
        return self.ess * self.num_samples

    @property
    def enough_to_judge(self) -> bool:
        """Whether there are enough draws to fit the tail of the weights."""
        return self.num_samples >= weights.MIN_DRAWS_FOR_TAIL

    @property
    def weights_are_useless(self) -> bool:
        """Whether averages with these weights are meaningless."""
        heavy = self.pareto_k > MAX_PARETO_K and self.tail_share > MAX_TAIL_SHARE
        return self.num_unusable > 0 or (self.enough_to_judge and heavy)

    @property
    def tail_is_doubtful(self) -> bool:
        """Whether the tail carries so much that stated errors are optimistic."""
        fat = self.pareto_k > GOOD_PARETO_K and self.tail_share > MAX_TAIL_SHARE
        return fat or self.tail_share > LARGE_TAIL_SHARE


def verdict_on(seen: Seen) -> Verdict:
    """Judge draws by these facts: whether they can be trusted, and why, in words."""
    doubts, notes = [*_weight_doubts(seen), *seen.warnings], list(seen.notes)
    if seen.num_non_finite > MAX_NON_FINITE_SHARE * seen.num_samples:
        doubts += _non_finite_note(seen)
    else:
        notes = _non_finite_note(seen) + notes
    if seen.weights_are_useless:
        head = "Not to be trusted."
    elif doubts:
        head = "Use with care."
    else:
        head = (
            f"Trustworthy: {_tail_in_words(seen)}, {seen.num_samples} draws worth about "
            f"{seen.num_effective:.0f} independent ones."
        )
    return Verdict(not doubts, " ".join([head, *doubts, *notes]))


def _weight_doubts(seen: Seen) -> Iterator[str]:
    """Sentences about what is wrong with the weights."""
    num, pareto_k = seen.num_samples, seen.pareto_k
    if seen.num_unusable:
        yield (
            f"{seen.num_unusable} of {num} log weights are not finite: the simulation "
            "overflowed. Train with a smaller learning rate, with more steps, or in float64."
        )
        return
    if not seen.enough_to_judge:
        yield f"{num} draws are too few to judge the sampler by; draw at least a few hundred."
    elif seen.weights_are_useless:
        yield (
            f"The weights have a heavy tail (k-hat {pareto_k:.2f}, above {MAX_PARETO_K}): the "
            "sampler rarely visits some of the posterior and a few draws stand for it "
            f"({seen.tail_share:.0%} of it), so that the averages, the evidence and the corrected "
            f"chains may all be wrong by more than their stated errors. {_draw_more(num)}"
            "Have a bridge trained (process=nb.CMCD) or train it longer (tolerance=0 trains on "
            "where training would stop), take more steps, use another process, or run NUTS."
        )
    elif seen.tail_is_doubtful:
        yield (
            f"The weights have a fairly heavy tail (k-hat {pareto_k:.2f}; the heaviest draws may "
            f"stand for {seen.tail_share:.0%} of the posterior): stated errors are optimistic. "
            "Draw more, or have a bridge trained, or train it longer."
        )
    if seen.enough_to_judge and seen.num_effective < MIN_EFFECTIVE_DRAWS:
        yield (
            f"The {num} draws are worth about {seen.num_effective:.0f} independent ones; draw more."
        )


def _draw_more(num: int) -> str:
    """What to do before anything else, where a few draws may make a tail look heavy by chance."""
    if num >= ENOUGH_DRAWS:
        return ""
    return f"Draw {ENOUGH_DRAWS:,} first: a few draws may have a heavy tail by chance. "


def _non_finite_note(seen: Seen) -> list[str]:
    if seen.num_non_finite == 0:
        return []
    return [
        f"{seen.num_non_finite} of {seen.num_samples} trajectories met a density or gradient "
        "that was not finite: such a density counts as none, such a gradient as zero."
    ]


def _tail_in_words(seen: Seen) -> str:
    if seen.pareto_k == -np.inf:
        return "weights without a tail"
    if seen.pareto_k > GOOD_PARETO_K:
        at_most = math.ceil(1_000 * seen.tail_share) / 10
        harmless = f"of a tail that does no harm (at most {at_most:.1f}% of the mass)"
        return f"k-hat {seen.pareto_k:.2f}, {harmless}"
    return f"k-hat {seen.pareto_k:.2f}"
