"""Costs: what a sampler spent, and how many effective draws it got for that."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numpyro_bridge._core.stopwatch import Watch
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.infer.posterior import Posterior


class Row(NamedTuple):
    """One cost, as a row of a table."""

    name: str
    """Its name in the data frame `Comparison.costs`."""
    label: str
    """Its name when printed."""
    value: int | float | None
    text: str
    """The value when printed; a dash if there is none."""


@dataclass(frozen=True)
class Costs:
    """Seconds and gradient evaluations of a sampler; None for what is not known or did not happen.

    >>> costs = nb.compare.Costs(train_seconds=4.0, draw_seconds=1.0, min_ess_bulk=900.0)
    >>> costs.ess_per_second
    180.0

    Attributes:
        standardise_seconds: Choosing the map, compilation included.
        compile_seconds: Compiling everything else.
        train_seconds: Training, or warming up.
        draw_seconds: Drawing.
        gradients_before: Gradient evaluations before drawing.
        gradients_drawing: Gradient evaluations while drawing.
        min_ess_bulk: The smallest bulk ESS of all parameters.
    """

    standardise_seconds: float | None = None
    compile_seconds: float | None = None
    train_seconds: float | None = None
    draw_seconds: float | None = None
    gradients_before: int | None = None
    gradients_drawing: int | None = None
    min_ess_bulk: float | None = None

    @property
    def total_seconds(self) -> float | None:
        """The sum of all seconds that are known; None if those of drawing are not known."""
        if self.draw_seconds is None:
            return None
        before = (self.standardise_seconds, self.compile_seconds, self.train_seconds)
        return self.draw_seconds + sum(seconds or 0.0 for seconds in before)

    @property
    def ess_per_second(self) -> float | None:
        """Smallest bulk ESS, divided by the total seconds."""
        return _rate(self.min_ess_bulk, self.total_seconds)

    @property
    def ess_per_second_drawing(self) -> float | None:
        """Smallest bulk ESS, divided by the seconds of drawing."""
        return _rate(self.min_ess_bulk, self.draw_seconds)

    def rows(self) -> tuple[Row, ...]:
        """All costs as rows of a table, in order."""
        return (
            _seconds(
                "standardise_seconds",
                "standardise, with its compilation [s]",
                self.standardise_seconds,
            ),
            _seconds("compile_seconds", "compile [s]", self.compile_seconds),
            _seconds("train_seconds", "train, or warm up [s]", self.train_seconds),
            _seconds("draw_seconds", "draw [s]", self.draw_seconds),
            _seconds("total_seconds", "total [s]", self.total_seconds),
            _number("gradients_before", "gradients before drawing", self.gradients_before),
            _number("gradients_drawing", "gradients while drawing", self.gradients_drawing),
            _number("min_ess_bulk", "smallest bulk ESS", self.min_ess_bulk),
            _number("ess_per_second", "ESS per second, of all", self.ess_per_second),
            _number(
                "ess_per_second_drawing", "ESS per second, of drawing", self.ess_per_second_drawing
            ),
        )


def bridge_costs(posterior: Posterior[Any], draws: Draws, drawing: Watch) -> Costs:
    """Seconds and gradients of a trained bridge; `drawing` has timed the drawing of `draws`."""
    before = posterior.report.num_gradient_evaluations
    seconds = posterior.report.seconds
    return Costs(
        standardise_seconds=seconds.standardise,
        compile_seconds=None if seconds.compile is None else seconds.compile + drawing.compiling,
        train_seconds=seconds.train,
        draw_seconds=drawing.running,
        gradients_before=before,
        gradients_drawing=(draws.report.num_gradient_evaluations or 0) - (before or 0),
    )


def _rate(number: float | None, seconds: float | None) -> float | None:
    return number / seconds if number is not None and seconds else None


def _seconds(name: str, label: str, value: float | None) -> Row:
    return Row(name, label, value, "-" if value is None else f"{value:.2f}")


def _number(name: str, label: str, value: int | float | None) -> Row:
    if value is None or np.isnan(value):
        return Row(name, label, value, "-")
    return Row(name, label, value, f"{value:,.0f}" if value >= 10 else f"{value:.2g}")
