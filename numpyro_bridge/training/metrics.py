"""What training reports of every iteration, and what its decisions are made by."""

import abc
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from numpyro_bridge.diffusion.samples import SampleLosses
from numpyro_bridge.trajectories.trajectory import Trajectory

Values = Array | np.ndarray

SMALL_GAP = 0.1
"""Nats between ELBO and log evidence below which a bridge is as good as its weights make it."""

COLLAPSE = 10.0
"""Nats below the best from which on training has gone wrong, however noisy it is."""


Own = TypeVar("Own", bound="AbstractFitMetrics")


class Curve(NamedTuple):
    """One number of every iteration, as a plot of the training shows it."""

    label: str
    values: Values
    limits: tuple[float, float]
    """The ends of the vertical axis."""
    bounds_evidence: bool = False
    """Whether it rises to the log evidence."""


class AbstractMetrics(eqx.Module):
    """Numbers of every iteration of a training, each an array over iterations."""

    @abc.abstractmethod
    def curves(self) -> tuple[Curve, ...]:
        """What a plot of the training shows, the most important first."""


class AbstractFitMetrics(AbstractMetrics):
    """What `fit` keeps of every iteration: numbers inside the compiled loop, arrays outside."""

    skipped: eqx.AbstractVar[Values]

    @classmethod
    @abc.abstractmethod
    def of(cls: type[Own], report: Any, skipped: Array) -> Own:
        """One iteration: what its loss returned besides the scalar, and whether it was left out."""

    @classmethod
    def blank(cls: type[Own], num_iterations: int) -> Own:
        """Zeros for so many iterations."""
        return cls(*(np.zeros(num_iterations) for _ in fields(cls)))

    @property
    def num_iterations(self) -> int:
        """Iterations reported on, skipped ones included."""
        return len(self.skipped)

    @property
    @abc.abstractmethod
    def height(self) -> Values:
        """What training raises, in nats."""

    @property
    def collapse(self) -> float:
        """How many nats below the best height the noise of a batch does not explain."""
        return COLLAPSE

    @property
    def nearly_perfect(self) -> bool:
        """Whether these iterations say by themselves that there is little left to gain."""
        return False

    @abc.abstractmethod
    def averages(self) -> dict[str, float]:
        """Averages over these iterations, as the progress bar shows them."""


class TrajectoryMetrics(AbstractFitMetrics):
    """What a loss over trajectories reports of every iteration."""

    elbo: Values
    """Mean log weight of the batch, in nats."""
    log_weight_sd: Values
    """Its standard deviation over the batch; zero for a perfect bridge."""
    ess: Values
    """Effective fraction of the batch, in (0, 1]."""
    num_non_finite: Values
    """Trajectories that met a non-finite density or score."""
    skipped: Values
    """1 where the update was not finite and was left out."""

    @classmethod
    def of(cls, report: Trajectory, skipped: Array) -> "TrajectoryMetrics":
        """Summarise a batch of trajectories.

        Raises:
            TypeError: if the loss returned something else.
        """
        if not isinstance(report, Trajectory):
            raise TypeError(
                "a loss should return its value and the trajectories it is of, but it returned "
                f"{type(report).__name__} in their place; for a loss of draws write "
                "fit(..., metrics=nb.training.LossMetrics)"
            )
        log_weight = report.log_weight
        shifted = jnp.exp(log_weight - jnp.max(log_weight))
        finite = jnp.all(report.states.finite, axis=-1)
        return cls(
            elbo=jnp.mean(log_weight),
            log_weight_sd=jnp.std(log_weight),
            ess=jnp.mean(shifted) ** 2 / jnp.mean(shifted**2),
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

    def averages(self) -> dict[str, float]:
        return {"ELBO": float(np.mean(self.elbo)), "ESS": float(np.mean(self.ess))}

    def curves(self) -> tuple[Curve, ...]:
        share = "effective sample size\n[share of a batch]"
        return elbo_curve(self.elbo), Curve(share, self.ess, (0.0, 1.02))


class LossMetrics(AbstractFitMetrics):
    """What a loss that reads draws reports of every iteration; draws have no weights."""

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
    """What is known of every iteration of NumPyro's `SVI`."""

    elbo: Values
    """Minus the loss, in nats."""

    def curves(self) -> tuple[Curve, ...]:
        return (elbo_curve(self.elbo),)


Metrics = TypeVar("Metrics", bound=AbstractMetrics)
FitMetrics = TypeVar("FitMetrics", bound=AbstractFitMetrics)


def concatenate(parts: Sequence[Metrics]) -> Metrics:
    """Metrics of all iterations, from those of one part or more."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def elbo_curve(elbo: Values) -> Curve:
    """The ELBO; the first iterations lie so far below that nothing else could be seen."""
    return Curve("ELBO [nats]", elbo, _with_margin(elbo, 0.05, 1.0), bounds_evidence=True)


def finite_mean(values: Values) -> float:
    """Mean over the iterations that gave a number; NaN if none did."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else float("nan")


def _with_margin(values: Values, low: float, high: float) -> tuple[float, float]:
    """Two quantiles of what is finite, and a little more at both ends."""
    finite = np.asarray(values)[np.isfinite(values)]
    bottom, top = np.quantile(finite, [low, high]) if finite.size else (0.0, 1.0)
    margin = 0.08 * max(top - bottom, 1e-3)
    return float(bottom - margin), float(top + margin)
