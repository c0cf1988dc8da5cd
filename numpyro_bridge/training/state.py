"""The decisions between two chunks of training: which parameters to keep, and when to stop.

The step size is constant until one of three things happens: the mean ELBO of the last 100
iterations exceeds that of the 100 before by less than `tolerance` nats; or the weights are so equal
that the ELBO is within 0.1 nats of the log evidence; or half of the iterations are done. From then
on it falls linearly to zero, which averages out the noise of the gradient. That takes as many
iterations as were done so far, or half as many where the weights are nearly equal. If the ELBO
collapses, the best parameters so far are restored and the step size is halved. Where a loss reads
draws there are no weights, and minus the loss takes the place of the ELBO.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import optax

from numpyro_bridge._core.types import PyTree
from numpyro_bridge.training.metrics import AbstractFitMetrics, concatenate, finite_mean

WINDOW = 100
"""Number of iterations that are averaged to see whether training still raises the ELBO."""


@dataclass
class Progress:
    """How far training is, and what was decided between chunks; saved in every checkpoint."""

    iteration: int
    end: int
    cooldown: int
    rate: float = 1.0
    best_height: float = -np.inf
    """The best mean height of a chunk so far, in nats: the ELBO, or minus a loss of draws."""
    plateaued: bool = False
    training_time: float = 0.0
    compile_time: float = 0.0


class TrainingState(NamedTuple):
    """The arrays that stay on the device from chunk to chunk."""

    params: PyTree
    optimizer: PyTree
    best: PyTree
    memory: PyTree
    """What the curriculum remembers."""


def decide(
    state: TrainingState,
    progress: Progress,
    history: Sequence[AbstractFitMetrics],
    optimizer: optax.GradientTransformation,
    warm_up: int,
    tolerance: float,
) -> TrainingState:
    """Keep the best parameters, recover from a collapse, and see whether to cool down."""
    if progress.iteration <= warm_up:
        # The curriculum still shows other targets, whose heights cannot be compared.
        return state._replace(best=state.params)
    latest: AbstractFitMetrics = history[-1]
    height = finite_mean(latest.height)
    if np.isfinite(height) and height >= progress.best_height:
        progress.best_height = height
        state = state._replace(best=state.params)
    elif not np.isfinite(height) or height < progress.best_height - latest.collapse:
        progress.rate *= 0.5
        state = state._replace(params=state.best, optimizer=optimizer.init(state.best))
    elif progress.end - progress.iteration <= progress.cooldown:
        # Noise can hide the gain of the last small steps, whose parameters are nearly an average.
        if height >= progress.best_height - _noise(latest):
            state = state._replace(best=state.params)
    cooldown = (
        0 if progress.plateaued else _cooldown_from_here(progress, history, warm_up, tolerance)
    )
    if cooldown > 0:
        progress.plateaued = True
        progress.cooldown = min(max(cooldown, WINDOW), progress.end - progress.iteration)
        progress.end = progress.iteration + progress.cooldown
    return state


def _cooldown_from_here(progress: Progress, history, warm_up: int, tolerance: float) -> int:
    """Over how many iterations to cool down, if this step size has little left to gain; else 0."""
    if tolerance <= 0 or progress.end - progress.iteration <= progress.cooldown:
        return 0
    if history[-1].nearly_perfect:
        return max(1, progress.iteration // 2)
    if progress.iteration < warm_up + 2 * WINDOW:
        return 0
    height = concatenate(history).height
    rise = finite_mean(height[-WINDOW:]) - finite_mean(height[-2 * WINDOW : -WINDOW])
    return progress.iteration if rise < tolerance else 0


def _noise(metrics: AbstractFitMetrics) -> float:
    """Standard error of the mean height of a chunk, from the spread of its iterations."""
    finite = np.asarray(metrics.height)[np.isfinite(metrics.height)]
    return float(np.std(finite) / np.sqrt(finite.size)) if finite.size else 0.0
