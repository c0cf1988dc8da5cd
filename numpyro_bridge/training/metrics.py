"""The numbers that training keeps of every iteration and makes its decisions by."""

import abc
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from numpyro_bridge.diffusion.samples import SampleLosses
from numpyro_bridge.objectives.over_charts import ChartedRuns
from numpyro_bridge.trajectories.trajectory import Trajectory

Values = Array | np.ndarray

SMALL_GAP = 0.1
"""With a gap below this many nats between ELBO and log evidence, training has little to gain."""

COLLAPSE = 10.0
"""This many nats below its best height, training has gone wrong, however noisy it is."""


Each = TypeVar("Each", bound="AbstractMetrics")
Own = TypeVar("Own", bound="AbstractFitMetrics")


class Curve(NamedTuple):
    """A number that every iteration has, as a plot of the training shows it."""

    label: str
    values: Values
    limits: tuple[float, float]
    """The ends of the vertical axis."""
    bounds_evidence: bool = False
    """Whether the log evidence is an upper bound of the curve, which the plot should show."""


class AbstractMetrics(eqx.Module):
    """Numbers of every iteration of a training, each an array over iterations."""

    def raised(self: Each, log_scale: float) -> Each:
        """The same with what was left out of the log densities, in nats, if that matters here."""
        return self

    @abc.abstractmethod
    def curves(self) -> tuple[Curve, ...]:
        """The curves that a plot of the training shows, the most important first."""


class AbstractFitMetrics(AbstractMetrics):
    """What `fit` keeps of every iteration: numbers inside the compiled loop, arrays outside it."""

    skipped: eqx.AbstractVar[Values]

    @classmethod
    @abc.abstractmethod
    def of(cls: type[Own], report: Any, skipped: Array) -> Own:
        """Summarise one iteration.

        Args:
            report: What the loss returned besides the scalar.
            skipped: 1 if the update was not finite and was skipped, else 0.
        """

    @classmethod
    def blank(cls: type[Own], num_iterations: int) -> Own:
        """Metrics of this many iterations, all of them zero, to be filled in."""
        return cls(*(np.zeros(num_iterations) for _ in fields(cls)))

    @property
    def num_iterations(self) -> int:
        """The number of iterations, skipped ones included."""
        return len(self.skipped)

    @property
    @abc.abstractmethod
    def height(self) -> Values:
        """The quantity that training raises, in nats: the ELBO, or minus a loss of draws."""

    @property
    def collapse(self) -> float:
        """A fall by more nats than this from the best height is not explained by noise."""
        return COLLAPSE

    @property
    def nearly_perfect(self) -> bool:
        """Whether these iterations show that there is little left to gain."""
        return False

    @abc.abstractmethod
    def averages(self) -> dict[str, float]:
        """Averages over these iterations, by name, for the progress bar."""


class TrajectoryMetrics(AbstractFitMetrics):
    """Metrics of a loss that reads trajectories.

    >>> posterior.metrics.elbo.shape
    (50,)
    >>> figure = nb.plots.plot_training(posterior.metrics)
    """

    elbo: Values
    """Mean log weight of the batch, in nats; over several charts, weighted by their shares."""
    log_weight_sd: Values
    """Standard deviation of the log weights over the batch; zero for a perfect bridge."""
    ess: Values
    """Effective sample size, as a share of the batch, in (0, 1]."""
    num_non_finite: Values
    """Trajectories that met a non-finite density or score."""
    skipped: Values
    """1 where the update was not finite and was left out."""

    @classmethod
    def of(cls, report: Trajectory | ChartedRuns, skipped: Array) -> "TrajectoryMetrics":
        """Summarise a batch of trajectories, on one chart or on several.

        On several charts every trajectory counts by the share of its chart, so that the ELBO is
        that of draws which choose their chart by these shares.

        Raises:
            TypeError: if the loss returned something else.
        """
        if not isinstance(report, Trajectory | ChartedRuns):
            raise TypeError(
                "a loss should return its value and its trajectories, but it returned "
                f"{type(report).__name__} in their place; for a loss of draws write "
                "fit(..., metrics=nb.training.LossMetrics)"
            )
        charted = isinstance(report, ChartedRuns)
        mean = partial(jnp.average, weights=report.share if charted else None)
        runs, log_weight = report.runs if charted else report, report.log_weight
        shifted = jnp.exp(log_weight - jnp.max(log_weight))
        finite = jnp.all(runs.states.finite, axis=-1)
        elbo = mean(log_weight)
        return cls(
            elbo=elbo,
            log_weight_sd=jnp.sqrt(mean((log_weight - elbo) ** 2)),
            ess=mean(shifted) ** 2 / mean(shifted**2),
            num_non_finite=jnp.sum(~finite, dtype=log_weight.dtype),
            skipped=skipped,
        )

    @property
    def height(self) -> Values:
        return self.elbo

    @property
    def collapse(self) -> float:
        return max(COLLAPSE, 3 * finite_mean(self.log_weight_sd))

    @property
    def nearly_perfect(self) -> bool:
        # For nearly equal weights the gap between ELBO and log evidence is half their variance.
        return 0.5 * finite_mean(np.square(self.log_weight_sd)) < SMALL_GAP

    def raised(self, log_scale: float) -> "TrajectoryMetrics":
        if log_scale == 0:
            return self
        return replace(self, elbo=np.asarray(self.elbo, np.float64) + log_scale)

    def averages(self) -> dict[str, float]:
        return {"ELBO": float(np.mean(self.elbo)), "ESS": float(np.mean(self.ess))}

    def curves(self) -> tuple[Curve, ...]:
        share = "effective sample size\n[share of a batch]"
        return elbo_curve(self.elbo), Curve(share, self.ess, (0.0, 1.02))


class LossMetrics(AbstractFitMetrics):
    """Metrics of a loss that reads draws; there are no weights, and so no ELBO.

    >>> amortised.metrics.loss.shape
    (50,)
    >>> figure = nb.plots.plot_training(amortised.metrics)
    """

    loss: Values
    """Mean loss of the batch, in nats."""
    num_non_finite: Values
    """Draws whose loss is not finite."""
    skipped: Values
    """1 where the update was not finite and was left out."""

    @classmethod
    def of(cls, report: SampleLosses, skipped: Array) -> "LossMetrics":
        """Summarise the losses of a batch of draws."""
        loss = report.loss
        num_non_finite = jnp.sum(~jnp.isfinite(loss), dtype=loss.dtype)
        return cls(jnp.mean(loss), num_non_finite, skipped)

    @property
    def height(self) -> Values:
        return -self.loss

    def averages(self) -> dict[str, float]:
        return {"loss": float(np.mean(self.loss))}

    def curves(self) -> tuple[Curve, ...]:
        return (Curve("loss [nats]", self.loss, _with_margin(self.loss, 0.0, 0.95)),)


class SVIMetrics(AbstractMetrics):
    """Metrics of NumPyro's `SVI`, which reports its losses alone.

    >>> metrics = nb.training.SVIMetrics(elbo=np.linspace(-20.0, -14.0, 100))
    >>> figure = nb.plots.plot_training(metrics)
    """

    elbo: Values
    """Minus the loss, in nats."""

    def curves(self) -> tuple[Curve, ...]:
        return (elbo_curve(self.elbo),)


Metrics = TypeVar("Metrics", bound=AbstractMetrics)
FitMetrics = TypeVar("FitMetrics", bound=AbstractFitMetrics)


def concatenate(parts: Sequence[Metrics]) -> Metrics:
    """Join the metrics of consecutive parts of a training."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def elbo_curve(elbo: Values) -> Curve:
    """The curve of the ELBO, its axis cut so that the low values of the start do not fill it."""
    return Curve("ELBO [nats]", elbo, _with_margin(elbo, 0.05, 1.0), bounds_evidence=True)


def finite_mean(values: Values) -> float:
    """Mean of the values that are finite; NaN if none is."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else float("nan")


def _with_margin(values: Values, low: float, high: float) -> tuple[float, float]:
    """Two quantiles of the finite values, moved apart by a small margin."""
    finite = np.asarray(values)[np.isfinite(values)]
    bottom, top = np.quantile(finite, [low, high]) if finite.size else (0.0, 1.0)
    margin = 0.08 * max(top - bottom, 1e-3)
    return float(bottom - margin), float(top + margin)
