"""The verdict on draws: whether they can be trusted, and the reasons in words."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from numpyro_bridge.draws import weights

MAX_PARETO_K = 0.7
"""Above it, no practical number of draws makes up for the regions that the sampler misses."""

GOOD_PARETO_K = 0.5
"""Below it, the weights have a finite variance and their averages an error that can be stated."""

MIN_EFFECTIVE_DRAWS = 100
"""With fewer, the Monte Carlo error of a mean is more than a tenth of the posterior's sd."""

MAX_NON_FINITE_SHARE = 0.01
"""Share of trajectories with a replaced density or score that is worth a second look."""


class ReliabilityWarning(UserWarning):
    """The draws cannot be trusted to represent the posterior."""


class Verdict(NamedTuple):
    """Whether the draws are trustworthy without reservation, and the reasons in words."""

    trustworthy: bool
    text: str


class Seen(NamedTuple):
    """What a verdict goes by."""

    num_samples: int
    num_unusable: int
    """Log weights that are not numbers, or all of them if none is finite."""
    num_non_finite: int
    """Trajectories that met a density or score that was not finite."""
    ess: float
    """Share of the draws that count."""
    pareto_k: float
    warnings: tuple[str, ...]
    """What the weights cannot see, in whole sentences."""

    @property
    def num_effective(self) -> float:
        """How many independent draws of the posterior they are worth."""
        return self.ess * self.num_samples

    @property
    def enough_to_judge(self) -> bool:
        """Whether there are enough draws to fit the tail of their weights."""
        return self.num_samples >= weights.MIN_DRAWS_FOR_TAIL

    @property
    def weights_are_useless(self) -> bool:
        """Whether averages with these weights mean nothing."""
        return self.num_unusable > 0 or (self.enough_to_judge and self.pareto_k > MAX_PARETO_K)


def verdict_on(seen: Seen) -> Verdict:
    """Whether draws of which this was seen can be trusted, and why, in words."""
    doubts, notes = [*_weight_doubts(seen), *seen.warnings], _non_finite_note(seen)
    if seen.num_non_finite > MAX_NON_FINITE_SHARE * seen.num_samples:
        doubts, notes = doubts + notes, []
    if seen.weights_are_useless:
        head = "Not to be trusted."
    elif doubts:
        head = "Use with care."
    else:
        head = (
            f"Trustworthy: {_tail_in_words(seen.pareto_k)}, {seen.num_samples} draws worth about "
            f"{seen.num_effective:.0f} independent ones."
        )
    return Verdict(not doubts, " ".join([head, *doubts, *notes]))


def _weight_doubts(seen: Seen) -> Iterator[str]:
    """Reasons, in words, not to take the weights at face value."""
    num, pareto_k = seen.num_samples, seen.pareto_k
    if seen.num_unusable:
        yield (
            f"{seen.num_unusable} of {num} log weights are not finite: the simulation "
            "overflowed. Train with a smaller learning rate, with more steps, or in float64."
        )
        return
    if not seen.enough_to_judge:
        yield f"{num} draws are too few to judge the sampler by; draw at least a few hundred."
    elif pareto_k > MAX_PARETO_K:
        yield (
            f"The weights have a heavy tail (k-hat {pareto_k:.2f}, above {MAX_PARETO_K}): the "
            "sampler rarely visits some of the posterior and a few draws stand for it, so that "
            "the averages, the evidence and the corrected chains may all be wrong by more than "
            "their stated errors. Train longer (tolerance=0 trains on where training would stop), "
            "take more steps, use another process, or run NUTS."
        )
    elif pareto_k > GOOD_PARETO_K:
        yield (
            f"The weights have a fairly heavy tail (k-hat {pareto_k:.2f}, above {GOOD_PARETO_K}): "
            "stated errors are optimistic. Train longer or draw more."
        )
    if seen.enough_to_judge and seen.num_effective < MIN_EFFECTIVE_DRAWS:
        yield (
            f"The {num} draws are worth about {seen.num_effective:.0f} independent ones; draw more."
        )


def _non_finite_note(seen: Seen) -> list[str]:
    if seen.num_non_finite == 0:
        return []
    return [
        f"{seen.num_non_finite} of {seen.num_samples} trajectories met a density or gradient "
        "that was not finite: such a density counts as none, such a gradient as zero."
    ]


def _tail_in_words(pareto_k: float) -> str:
    return "weights without a tail" if pareto_k == -np.inf else f"k-hat {pareto_k:.2f}"
