"""Draws: named sites and one log weight per draw, and what the weights say about them."""

import warnings as python_warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws import weights
from numpyro_bridge.draws.prediction import model_of, pointwise_log_likelihood
from numpyro_bridge.target import Target

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


@dataclass(frozen=True, eq=False, repr=False)
class Draws:
    """Independent draws of a sampler, with the weights that correct them.

    The draws are *proposals*: `log_weight` is what turns them into the posterior. `resample` and
    `to_inference_data` do so; `sites` alone is the sampler's own approximation.

    Attributes:
        sites: site name to constrained values, shape (num_samples, ...), deterministic ones too.
        log_weight: log target minus log proposal, in nats, shape (num_samples,).
        position: unconstrained draws in the model's own coordinates, shape (num_samples, dim).
        log_density: unnormalised log density of the target at `position`, in nats.
        target: what was sampled from.
        num_non_finite: trajectories that met a density or score that was not finite.
        info: training_time and sampling_time in seconds, num_gradient_evaluations, process,
            objective; plain strings and numbers only, since they become attributes of a file.
        warnings: what was noticed on the way and the weights cannot see, such as a mode that no
            draw visits; part of the verdict.
    """

    sites: dict[str, Array]
    log_weight: Float[Array, " num_samples"]
    position: Float[Array, "num_samples dim"]
    log_density: Float[Array, " num_samples"]
    target: Target
    num_non_finite: int = 0
    info: dict[str, str | int | float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self):
        """Refuse sites that do not belong to the weights."""
        num = self.log_weight.shape[0]
        if num == 0:
            raise ValueError("Draws need at least one draw, but log_weight is empty.")
        wrong = {name: v.shape for name, v in self.sites.items() if v.shape[:1] != (num,)}
        if wrong:
            raise ValueError(
                f"every site should have one row per log weight, so a leading axis of {num}, but "
                f"these have not: {wrong}. Batch the constrained values with jax.vmap."
            )

    def __repr__(self) -> str:
        """Say what is inside, not every number."""
        sites = ", ".join(f"{name}{list(v.shape[1:]) or ''}" for name, v in self.sites.items())
        return f"Draws(num_samples={self.num_samples}, sites: {sites})"

    @property
    def num_samples(self) -> int:
        """Number of draws."""
        return self.log_weight.shape[0]

    @cached_property
    def elbo(self) -> float:
        """Lower bound on the log evidence, in nats."""
        return float(weights.elbo(self.log_weight)[0])

    @cached_property
    def elbo_error(self) -> float:
        """Monte Carlo standard error of `elbo`, in nats."""
        return float(weights.elbo(self.log_weight)[1])

    @cached_property
    def log_evidence(self) -> float:
        """Estimate of the log evidence, in nats; NaN if the target has none (improper prior)."""
        return float(weights.log_evidence(self.log_weight)[0]) if self._has_evidence else np.nan

    @cached_property
    def log_evidence_error(self) -> float:
        """Monte Carlo standard error of `log_evidence`, in nats; NaN where that is."""
        return float(weights.log_evidence(self.log_weight)[1]) if self._has_evidence else np.nan

    @property
    def _has_evidence(self) -> bool:
        return bool(self.target.has_evidence)

    @cached_property
    def ess(self) -> float:
        """Share of the draws that count, in (0, 1]."""
        return float(weights.effective_sample_size(self.log_weight))

    @cached_property
    def pareto_k(self) -> float:
        """Tail index k-hat of the weights: good below 0.5, not to be trusted above 0.7.

        `-inf` if the weights have no tail, `inf` if it cannot be fitted: fewer than 25 draws, one
        draw that carries everything, or weights that are not numbers.
        """
        return self._smoothed.pareto_k if self._num_unusable == 0 else np.inf

    @cached_property
    def _smoothed(self) -> weights.Smoothed:
        return weights.pareto_smooth(self.log_weight)

    @cached_property
    def _num_unusable(self) -> int:
        """Weights that rank nothing: NaN and +inf, and zeros if all of them are."""
        values = np.asarray(self.log_weight)
        bad = int(np.sum(np.isnan(values) | np.isposinf(values)))
        return bad if np.any(np.isfinite(values)) else self.num_samples

    def resample(self, rng_key: RNGKey, num_samples: int) -> dict[str, Array]:
        """Equally weighted posterior draws, as NumPyro's `get_samples` would return them.

        Systematic resampling with Pareto-smoothed weights; draws of large weight appear more than
        once.

        Args:
            rng_key: a JAX key.
            num_samples: how many draws to return; more than `ess * len(log_weight)` add nothing.

        Returns:
            Site name to values, shape (num_samples, ...), in random order.

        Raises:
            ValueError: if a weight is NaN or infinite.
        """
        indices = weights.resample_indices(rng_key, self._smoothed.log_weight, num_samples)
        return {name: value[indices] for name, value in self.sites.items()}

    def log_likelihood(self) -> dict[str, Array]:
        """Log density of every observation at every draw, in nats: by site, (num_samples, ...).

        For `arviz.loo`, `to_inference_data` has it for corrected draws.

        Raises:
            ValueError: if the draws are of a plain log density, or of a model with discrete latent
                sites.
        """
        target = model_of(self.target, "log_likelihood")
        latents = {name: self.sites[name] for name in target.sites}
        return pointwise_log_likelihood(target, latents, batch_ndims=1)

    @property
    def verdict(self) -> Verdict:
        """Whether the draws can be trusted, and why, in words."""
        doubts, notes = [*_weight_doubts(self), *self.warnings], _non_finite_note(self)
        if self.num_non_finite > MAX_NON_FINITE_SHARE * self.num_samples:
            doubts, notes = doubts + notes, []
        if self._weights_are_useless:
            head = "Not to be trusted."
        elif doubts:
            head = "Use with care."
        else:
            head = f"Trustworthy: {_tail_in_words(self.pareto_k)}, {_effective_in_words(self)}."
        return Verdict(not doubts, " ".join([head, *doubts, *notes]))

    @property
    def _weights_are_useless(self) -> bool:
        judged = self.num_samples >= weights.MIN_DRAWS_FOR_TAIL
        return self._num_unusable > 0 or (judged and self.pareto_k > MAX_PARETO_K)

    def warn_if_unreliable(self, stacklevel: int = 2) -> None:
        """Issue a `ReliabilityWarning` if the draws are not to be trusted or a mode is missing.

        Args:
            stacklevel: whose line the warning names, as in `warnings.warn`; 2 is the caller's.
        """
        if self._weights_are_useless or self.warnings:
            text = self.verdict.text
            python_warnings.warn(text, ReliabilityWarning, stacklevel=stacklevel)

    def print_summary(self, prob: float = 0.9) -> None:
        """Print weighted moments and quantiles of every site, and how far they can be trusted.

        Args:
            prob: mass between the two outer quantiles, in (0, 1).

        Raises:
            ValueError: if `prob` is not in (0, 1), or a weight is NaN or infinite.

        Warns:
            ReliabilityWarning: if the draws are not to be trusted.
        """
        if not 0 < prob < 1:
            raise ValueError(f"prob should be between 0 and 1, such as 0.9, but it is {prob}.")
        self.warn_if_unreliable(stacklevel=3)
        print("\n".join(["", *_table(self, prob), "", *_footer(self), ""]))


def _weight_doubts(draws: Draws) -> list[str]:
    """Reasons, in words, not to take the weights at face value."""
    num, pareto_k = draws.num_samples, draws.pareto_k
    if draws._num_unusable:
        return [
            f"{draws._num_unusable} of {num} log weights are not finite: the simulation "
            "overflowed. Train with a smaller learning rate, with more steps, or in float64."
        ]
    doubts = []
    if num < weights.MIN_DRAWS_FOR_TAIL:
        doubts.append(
            f"{num} draws are too few to judge the sampler by; draw at least a few hundred."
        )
    elif pareto_k > MAX_PARETO_K:
        doubts.append(
            f"The weights have a heavy tail (k-hat {pareto_k:.2f}, above {MAX_PARETO_K}): the "
            "sampler rarely visits some of the posterior and a few draws stand for it, so that "
            "the averages, the evidence and the corrected chains may all be wrong by more than "
            "their stated errors. Train longer (tolerance=0 trains on where training would stop), "
            "take more steps, use another process, or run NUTS."
        )
    elif pareto_k > GOOD_PARETO_K:
        doubts.append(
            f"The weights have a fairly heavy tail (k-hat {pareto_k:.2f}, above {GOOD_PARETO_K}): "
            "stated errors are optimistic. Train longer or draw more."
        )
    effective = draws.ess * num
    if num >= weights.MIN_DRAWS_FOR_TAIL and effective < MIN_EFFECTIVE_DRAWS:
        doubts.append(
            f"The {num} draws are worth about {effective:.0f} independent ones; draw more."
        )
    return doubts


def _non_finite_note(draws: Draws) -> list[str]:
    if draws.num_non_finite == 0:
        return []
    return [
        f"{draws.num_non_finite} of {draws.num_samples} trajectories met a density or gradient "
        "that was not finite: such a density counts as none, such a gradient as zero."
    ]


def _tail_in_words(pareto_k: float) -> str:
    return "weights without a tail" if pareto_k == -np.inf else f"k-hat {pareto_k:.2f}"


def _effective_in_words(draws: Draws) -> str:
    effective = draws.ess * draws.num_samples
    return f"{draws.num_samples} draws worth about {effective:.0f} independent ones"


def _table(draws: Draws, prob: float) -> Iterator[str]:
    """One line per site element, in the columns of NumPyro's own `print_summary`."""
    levels = (0.5, (1 - prob) / 2, (1 + prob) / 2)
    columns = ["mean", "std", "median", *(f"{100 * level:.1f}%" for level in levels[1:])]
    normalised = np.exp(np.asarray(draws._smoothed.log_weight, np.float64))
    rows = {}
    for name, value in draws.sites.items():
        value = np.asarray(value, np.float64)
        for index in product(*map(range, value.shape[1:])):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            rows[label] = _weighted_summary(value[(slice(None), *index)], normalised, levels)
    width = max([10, *map(len, rows)])
    yield f"{'':>{width}}" + "".join(f" {column:>9}" for column in columns)
    for label, numbers in rows.items():
        yield f"{label:>{width}}" + "".join(f" {number:>9.2f}" for number in numbers)


def _weighted_summary(
    values: np.ndarray, normalised: np.ndarray, levels: tuple[float, ...]
) -> list[float]:
    mean = normalised @ values
    sd = np.sqrt(normalised @ (values - mean) ** 2)
    order = np.argsort(values)
    # A draw stands for the middle of its own weight: half a draw in from both ends.
    middle = np.cumsum(normalised[order]) - normalised[order] / 2
    quantiles = np.interp(levels, middle, values[order])
    return [float(number) for number in (mean, sd, *quantiles)]


def _footer(draws: Draws) -> Iterator[str]:
    yield f"ELBO          {draws.elbo:.3f} ± {draws.elbo_error:.3f}"
    if draws._has_evidence:
        yield f"log evidence  {draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}"
    else:
        sites = ", ".join(getattr(draws.target, "improper_sites", ()))
        at = f" at {sites}" if sites else ""
        yield f"log evidence  not defined: the prior is improper{at}"
    yield f"ESS           {draws.ess:.3f} of {draws.num_samples} draws"
    yield f"Pareto k-hat  {draws.pareto_k:.2f}"
    yield draws.verdict.text
