"""Training: a trained module, and how it was trained."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic

import numpy as np

from numpyro_bridge.training.metrics import FitMetrics


class Stop(StrEnum):
    """Why a training ended; the most serious reason comes last.

    >>> posterior.report.stopped is nb.training.Stop.PLATEAU
    True
    """

    PLATEAU = "plateau"
    """There was little left to gain, so that it stopped early."""
    BUDGET = "budget"
    """All iterations were done."""
    INTERRUPTED = "interrupted"
    """Ctrl-C was pressed."""


@dataclass(frozen=True)
class Training(Generic[FitMetrics]):
    """A trained module, and how it was trained.

    >>> training.num_iterations, str(training.stopped)
    (50, 'plateau')
    >>> process = training.module
    """

    module: Any
    metrics: FitMetrics
    stopped: Stop
    training_time: float
    """Seconds that training took, compilation excluded."""
    compile_time: float
    """Seconds that compiling took."""

    @property
    def num_iterations(self) -> int:
        """The number of iterations done, skipped ones included."""
        return self.metrics.num_iterations

    @property
    def num_skipped(self) -> int:
        """The number of updates that were skipped because they were not finite."""
        return int(np.sum(self.metrics.skipped))


def untrained(module: Any, metrics: type[FitMetrics]) -> Training[FitMetrics]:
    """The training that Ctrl-C prevented: of no iterations, with the module as it was."""
    return Training(module, metrics.blank(0), Stop.INTERRUPTED, 0.0, 0.0)
