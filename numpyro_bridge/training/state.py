"""What the host decides between two chunks of training: what to keep, and when to stop."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from numpyro_bridge.training.metrics import Metrics, Values

WINDOW = 100
"""Iterations averaged when asking whether the ELBO still rises."""

SMALL_GAP = 0.1
"""Nats between ELBO and log evidence below which a bridge is as good as its weights make it."""


@dataclass
class Progress:
    """What the host decides between chunks; saved in every checkpoint."""

    iteration: int
    end: int
    cooldown: int
    rate: float = 1.0
    best_elbo: float = -np.inf
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
        return state._replace(best=state.params)  # ELBOs of other targets do not compare
    latest = history[-1]
    elbo, spread = _finite_mean(latest.elbo), _finite_mean(latest.log_weight_sd)
    if np.isfinite(elbo) and elbo >= progress.best_elbo:
        progress.best_elbo = elbo
        state = state._replace(best=state.params)
    elif not np.isfinite(elbo) or elbo < progress.best_elbo - max(10.0, 3 * spread):
        progress.rate *= 0.5
        state = state._replace(params=state.best, optimizer=optimizer.init(state.best))
    elif progress.end - progress.iteration <= progress.cooldown:
        # Batch noise can hide the gain of the last small steps: what cooled down is the average.
        if elbo >= progress.best_elbo - _noise(latest):
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
    # For nearly equal weights the gap between ELBO and log evidence is half their variance.
    if 0.5 * _finite_mean(np.square(history[-1].log_weight_sd)) < SMALL_GAP:
        return max(1, progress.iteration // 2)
    if progress.iteration < warm_up + 2 * WINDOW:
        return 0
    elbo = concatenate(history).elbo
    rise = _finite_mean(elbo[-WINDOW:]) - _finite_mean(elbo[-2 * WINDOW : -WINDOW])
    return progress.iteration if rise < tolerance else 0


def _finite_mean(values: Values) -> float:
    """Mean over the iterations that gave a number; NaN if none did."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else float("nan")


def _noise(metrics: Metrics) -> float:
    """Standard error of a chunk's mean ELBO, from the spread between its iterations."""
    finite = np.asarray(metrics.elbo)[np.isfinite(metrics.elbo)]
    return float(np.std(finite) / np.sqrt(finite.size)) if finite.size else 0.0


def concatenate(history: list[Metrics]) -> Metrics:
    """Metrics of all iterations, from those of chunks."""
    if not history:
        return Metrics(*(np.zeros(0) for _ in Metrics._fields))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *history)
