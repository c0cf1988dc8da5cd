"""Training: a trained module, and how it got there."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic

import numpy as np

from numpyro_bridge.training.metrics import FitMetrics


class Stop(StrEnum):
    """Why a training ended."""

    PLATEAU = "plateau"
    """There was little left to gain."""
    BUDGET = "budget"
    """All iterations were done."""
    INTERRUPTED = "interrupted"
    """Somebody pressed Ctrl-C."""


@dataclass(frozen=True)
class Training(Generic[FitMetrics]):
    """A trained module and how it got there."""

    module: Any
    metrics: FitMetrics
    stopped: Stop
    training_time: float
    """Seconds, compilation excluded."""
    compile_time: float
    """Seconds."""

    @property
    def num_iterations(self) -> int:
        """Iterations done, skipped ones included."""
        return self.metrics.num_iterations

    @property
    def num_skipped(self) -> int:
        """Updates left out because they were not finite."""
        return int(np.sum(self.metrics.skipped))
