"""Draws: values of named sites and one log weight per draw, and what the weights say of them."""

import warnings as python_warnings
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from numpyro_bridge._core import strata, weights
from numpyro_bridge._core.checks import (
    check_array,
    check_count,
    check_instance,
    check_key,
    check_mapping,
    check_names,
    check_share,
)
from numpyro_bridge._core.doors import check_unforked
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.facts import facts_about
from numpyro_bridge.draws.float_limits import doubts_about_numbers
from numpyro_bridge.draws.html import MOST_ROWS, html_of_draws
from numpyro_bridge.draws.prediction import model_of, pointwise_log_likelihood
from numpyro_bridge.draws.summary import Table, table_lines, table_of
from numpyro_bridge.draws.verdict import ReliabilityWarning, Seen, Verdict, verdict_on
from numpyro_bridge.target import Target, remarks
from numpyro_bridge.target.reference import spacing
from numpyro_bridge.training.report import RunReport


@dataclass(frozen=True, eq=False, repr=False)
class Draws:
    """Independent draws of a sampler, with the weights that correct them.

    >>> draws
    Draws(num_samples=1000, sites: slope, w[2])
    >>> draws.sites["w"].shape
    (1000, 2)
    >>> draws.verdict.trustworthy
    True

    The draws are *proposals* from the sampler's own approximation of the posterior; `log_weight`
    says how to correct them. `resample` and `to_inference_data` apply the correction; `sites` holds
    the draws without it.

    Attributes:
        sites: constrained values of each site by name, shape (num_samples, ...), deterministic
            sites included.
        log_weight: log target minus log proposal, in nats, shape (num_samples,). Where log
            densities are so large that rounding would blur their differences, `target.log_scale` is
            left out of these and of `log_density`; it is part of the evidence and its bounds. It is
            zero for most models.
        position: unconstrained draws in the model's own coordinates, shape (num_samples, dim).
        log_density: unnormalised log density of the target at `position`, in nats.
        target: what was sampled from.
        num_non_finite: number of trajectories that met a density or score that was not finite.
        report: how the draws were made and what that cost; its entries become attributes of the
            ArviZ object.
        warnings: sentences about faults that the weights cannot show, such as a mode that no draw
            visits; they are part of the verdict.
        notes: sentences about what nobody looked for; they are part of the verdict too, but no
            reason for doubt.
        chart: the number of the chart that each draw is on; zeros where there is one chart.
    """

    sites: dict[str, Array]
    log_weight: Float[Array, " num_samples"]
    position: Float[Array, "num_samples dim"]
    log_density: Float[Array, " num_samples"]
    target: Target
    num_non_finite: int = 0
    report: RunReport = RunReport()
    warnings: tuple[str, ...] = ()
    chart: Int[Array, " num_samples"] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no draws, and sites that do not have one row for each weight."""
        self._check_fields()
        num = self.log_weight.shape[0]
        if num == 0:
            raise ValueError("Draws need at least one draw, but log_weight is empty.")
        if self.chart is None:
            object.__setattr__(self, "chart", jnp.zeros(num, int))
        wrong = {name: v.shape for name, v in self.sites.items() if v.shape[:1] != (num,)}
        if wrong:
            raise ValueError(
                f"every site should have one row per log weight, so a leading axis of {num}, but "
                f"these have not: {wrong}. Batch the constrained values with jax.vmap."
            )

    def _check_fields(self) -> None:
        check_mapping("sites", self.sites, 'a site "mu": {"mu": values}')
        check_array("log_weight", self.log_weight, "(num_samples,)")
        check_array("position", self.position, "(num_samples, dim)")
        check_array("log_density", self.log_density, "(num_samples,)")
        check_instance("target", self.target, Target, "posterior.target.base")
        check_count("num_non_finite", self.num_non_finite, 0)
        check_instance("report", self.report, RunReport, "nb.training.RunReport()")
        check_names("warnings", self.warnings, '("a mode is missing",)')
        check_names("notes", self.notes, '("nobody looked for modes",)')
        if self.chart is not None:
            check_array("chart", self.chart, "(num_samples,)")

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
        """A lower bound on the log evidence, in nats: the mean log weight.

        Where there are several charts it is the log of the sum of the exponentials of their ELBOs.
        """
        return self._bound[0]

    @cached_property
    def elbo_error(self) -> float:
        """Monte Carlo standard error of `elbo`, in nats."""
        return self._bound[1]

    @cached_property
    def _bound(self) -> tuple[float, float]:
        bound, error = strata.stratified_elbo(np.asarray(self.log_weight), self._strata)
        return bound + self.target.log_scale, error

    @property
    def _strata(self) -> np.ndarray:
        return np.asarray(self.chart)

    @cached_property
    def num_charts(self) -> int:
        """Number of charts that the draws are on."""
        return len(np.unique(self._strata))

    @cached_property
    def chart_masses(self) -> strata.Masses:
        """The share of the posterior mass on each chart, with standard errors."""
        return strata.masses(np.asarray(self.log_weight), self._strata)

    @cached_property
    def log_evidence(self) -> float:
        """Estimate of the log evidence, in nats; NaN if the target has none (improper prior)."""
        return self._evidence[0] if self._has_evidence else np.nan

    @cached_property
    def log_evidence_error(self) -> float:
        """Monte Carlo standard error of `log_evidence`, in nats; NaN if the target has none."""
        return self._evidence[1] if self._has_evidence else np.nan

    @cached_property
    def _evidence(self) -> tuple[float, float]:
        log_weight = np.asarray(self.log_weight)
        estimate, error = strata.stratified_log_evidence(log_weight, self._strata)
        return estimate + self.target.log_scale, error

    @property
    def _has_evidence(self) -> bool:
        return bool(self.target.has_evidence)

    @cached_property
    def ess(self) -> float:
        """Effective sample size as a share of the draws, in (0, 1]."""
        return weights.effective_sample_size(self.log_weight)

    @cached_property
    def pareto_k(self) -> float:
        """Tail index k-hat of the weights: good below 0.5, not to be trusted above 0.7.

        It is `-inf` if the weights have no tail, and `inf` if no tail can be fitted: there are
        fewer than 25 draws, or one draw carries all the weight, or weights are not numbers.
        """
        return self._smoothed.pareto_k if self._num_unusable == 0 else np.inf

    @cached_property
    def tail_share(self) -> float:
        """The share of the posterior that the heaviest draw and those beyond it may stand for.

        k-hat says how fast the tail of the weights falls, and this says how much there is of it:
        nearly equal weights may have a high k-hat and no tail that matters.
        """
        return weights.tail_share(self.log_weight, self.pareto_k)

    @cached_property
    def _smoothed(self) -> weights.Smoothed:
        # The weights are known, also where the first to ask is compiled code, which would leave
        # values of its own behind.
        with jax.ensure_compile_time_eval():
            return weights.pareto_smooth(self.log_weight, self._resolution)

    @cached_property
    def _resolution(self) -> float:
        """Distance of neighbouring numbers as large as the log densities, in nats."""
        if self.target.reference is not None:
            return self.target.reference.resolution
        return spacing(float(np.median(np.abs(np.asarray(self.log_density)))))

    @cached_property
    def _num_unusable(self) -> int:
        """Number of weights that cannot rank the draws: NaN, infinite, or zero if all are zero."""
        values = np.asarray(self.log_weight)
        bad = int(np.sum(np.isnan(values) | np.isposinf(values)))
        return bad if np.any(np.isfinite(values)) else self.num_samples

    def resample(self, rng_key: RNGKey, num_samples: int) -> dict[str, Array]:
        """Equally weighted posterior draws, as NumPyro's `get_samples` would return them.

        They come from systematic resampling with Pareto-smoothed weights, so that draws of large
        weight appear more than once.

        Args:
            rng_key: a JAX key.
            num_samples: how many draws to return; more than `ess` times the number of draws add
                no information.

        Returns:
            Site name to values, shape (num_samples, ...), in random order.

        Raises:
            ValueError: if a weight is NaN or infinite.
        """
        check_unforked("Draws.resample")
        check_key(rng_key)
        num_samples = check_count("num_samples", num_samples, 1)
        indices = weights.resample_indices(rng_key, self._smoothed.log_weight, num_samples)
        return {name: value[indices] for name, value in self.sites.items()}

    def log_likelihood(self) -> dict[str, Array]:
        """Log density of every observation at every draw, in nats, by observed site.

        The draws here are not corrected; for `arviz.loo` use `to_inference_data`, which corrects
        them. Each value has shape (num_samples, ...).

        Raises:
            ValueError: if the target is a plain log density, or a model with discrete latent sites,
                or data that the model reads by itself have changed.
        """
        target = model_of(self.target, "log_likelihood")
        target.check_unchanged()
        latents = {name: self.sites[name] for name in target.sites}
        return pointwise_log_likelihood(target, latents, batch_ndims=1)

    @property
    def verdict(self) -> Verdict:
        """Whether the draws can be trusted, and why, in words."""
        return verdict_on(self._seen)

    @property
    def _seen(self) -> Seen:
        return Seen(
            self.num_samples,
            self._num_unusable,
            self.num_non_finite,
            self.ess,
            self.pareto_k,
            self.tail_share,
            (
                *self.warnings,
                *self.target.doubts,
                *remarks.coarse(self._resolution),
                *self._doubts_about_numbers,
            ),
            (*self.notes, *self.target.notes),
        )

    @cached_property
    def _doubts_about_numbers(self) -> tuple[str, ...]:
        if self._num_unusable:  # which is doubt enough
            return ()
        weight = np.exp(np.asarray(self._smoothed.log_weight, float))
        shapes = self.target.sites
        return tuple(doubts_about_numbers(self.sites, shapes, weight, self._strata))

    @property
    def weights_are_useless(self) -> bool:
        """Whether averages with the weights are meaningless."""
        return self._seen.weights_are_useless

    @property
    def tail_is_doubtful(self) -> bool:
        """Whether the tail of the weights carries so much that stated errors are optimistic."""
        return self._seen.tail_is_doubtful

    def warn_if_unreliable(self, stacklevel: int = 2) -> None:
        """Issue a `ReliabilityWarning` if the draws are not to be trusted or a mode is missing.

        Args:
            stacklevel: which caller's line the warning names, as in `warnings.warn`; 2 is the line
                that calls this method.
        """
        stacklevel = check_count("stacklevel", stacklevel, 1)
        if self._seen.weights_are_useless or self._seen.warnings:
            text = self.verdict.text
            python_warnings.warn(text, ReliabilityWarning, stacklevel=stacklevel)

    def print_summary(self, prob: float = 0.9) -> None:
        """Print weighted moments and quantiles of every site, the evidence and the verdict.

        Args:
            prob: probability between the two outer quantiles, in (0, 1).

        Raises:
            ValueError: if `prob` is not in (0, 1), or a weight is NaN or infinite.

        Warns:
            ReliabilityWarning: if the draws are not to be trusted.
        """
        prob = check_share("prob", prob)
        self.warn_if_unreliable(stacklevel=3)
        table = table_lines(self._table(prob))
        facts = [f"{name:<13} {value}" for name, value in facts_about(self)]
        print("\n".join(["", *table, "", *facts, self.verdict.text, ""]))

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, the evidence, and the first rows of the table."""
        table = None if self._num_unusable else self._table(most=MOST_ROWS)
        return html_of_draws(self.num_samples, self.verdict, facts_about(self), table)

    def _table(self, prob: float = 0.9, most: int | None = None) -> Table:
        normalised = np.exp(np.asarray(self._smoothed.log_weight, np.float64))
        return table_of(self.sites, normalised, prob, most)
