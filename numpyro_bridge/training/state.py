"""What the host decides between two chunks of training: what to keep, and when to stop."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from numpyro_bridge.training.metrics import AbstractFitMetrics, concatenate, finite_mean

WINDOW = 100
"""Iterations averaged when asking whether training still rises."""


@dataclass
class Progress:
    """What the host decides between chunks; saved in every checkpoint."""

    iteration: int
    end: int
    cooldown: int
    rate: float = 1.0
    best_height: float = -np.inf
    """Of the chunks so far, in nats: the ELBO, or minus a loss of draws."""
    plateaued: bool = False
    training_time: float = 0.0
    compile_time: float = 0.0


class TrainingState(NamedTuple):
    """What stays on the device from chunk to chunk."""

    params: PyTree
    optimizer: PyTree
    best: PyTree
    memory: PyTree
    """Of the curriculum."""


def decide(
    state: TrainingState, progress: Progress, history, optimizer, warm_up: int, tolerance: float
) -> TrainingState:
    """Keep the best parameters, recover from a collapse, and see whether to cool down."""
    if progress.iteration <= warm_up:
        return state._replace(best=state.params)  # heights of other targets do not compare
    latest: AbstractFitMetrics = history[-1]
    height = finite_mean(latest.height)
    if np.isfinite(height) and height >= progress.best_height:
        progress.best_height = height
        state = state._replace(best=state.params)
    elif not np.isfinite(height) or height < progress.best_height - latest.collapse:
        progress.rate *= 0.5
        state = state._replace(params=state.best, optimizer=optimizer.init(state.best))
    elif progress.end - progress.iteration <= progress.cooldown:
        # Batch noise can hide the gain of the last small steps: what cooled down is the average.
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
    """Iterations to end training with if there is little left to gain at this step size, else 0."""
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
    """Standard error of a chunk's mean height, from the spread between its iterations."""
    finite = np.asarray(metrics.height)[np.isfinite(metrics.height)]
    return float(np.std(finite) / np.sqrt(finite.size)) if finite.size else 0.0
