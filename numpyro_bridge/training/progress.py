"""The progress bar of a training."""

import os

from tqdm.auto import tqdm

from numpyro_bridge._core.together import is_first
from numpyro_bridge.training.metrics import AbstractFitMetrics
from numpyro_bridge.training.state import Progress


class Bar:
    """A tqdm bar whose end moves nearer when training is going to stop early."""

    def __init__(self, progress: Progress, shown: bool):
        hidden = not (shown and is_first()) or "CI" in os.environ
        self._bar = tqdm(total=progress.end, desc="training", disable=hidden)
        self._bar.update(progress.iteration)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def show(self, progress: Progress, metrics: AbstractFitMetrics) -> None:
        """Move the bar to the present iteration, and show averages of the last iterations."""
        self._bar.total = progress.end
        numbers = {name: f"{value:.2f}" for name, value in metrics.averages().items()}
        self._bar.set_postfix(numbers, refresh=False)
        self._bar.update(progress.iteration - self._bar.n)
