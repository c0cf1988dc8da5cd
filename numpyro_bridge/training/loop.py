"""Training: one compiled loop in chunks for any module and any loss."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from numpyro_bridge._core.checks import check_count
from numpyro_bridge._core.devices import Device, copy_back, copy_to, divided_among
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.curricula import AbstractCurriculum, Unchanged
from numpyro_bridge.training.checkpoints import Keeper, resume
from numpyro_bridge.training.metrics import Metrics, summarised
from numpyro_bridge.training.progress import Bar
from numpyro_bridge.training.run_identity import run_of
from numpyro_bridge.training.state import Progress, TrainingState, concatenate, decide

Loss = Callable[[RNGKey, Any, Any], tuple[Scalar, Any]]

CHUNK = 25
"""Iterations per call of the compiled loop: long enough to hide its overhead, short for Ctrl-C."""

UNCHANGED = Unchanged()


@dataclass(frozen=True)
class Training:
    """A trained module and how it got there."""

    module: Any
    metrics: Metrics
    stopped: str
    """"plateau", "budget" or "interrupted"."""
    training_time: float
    """Seconds, compilation excluded."""
    compile_time: float
    """Seconds."""

    @property
    def num_iterations(self) -> int:
        """Iterations done, skipped ones included."""
        return len(self.metrics.elbo)

    @property
    def num_skipped(self) -> int:
        """Updates left out because they were not finite."""
        return int(np.sum(self.metrics.skipped))


def fit(
    rng_key: RNGKey,
    module: eqx.Module,
    loss: Loss,
    data: Any,
    *,
    optimizer: optax.GradientTransformation,
    num_iterations: int,
    trainable: Callable[[Any], bool] | PyTree = eqx.is_inexact_array,
    curriculum: AbstractCurriculum = UNCHANGED,
    tolerance: float = 0.01,
    checkpoint: str | os.PathLike | None = None,
    devices: Sequence[Device] = (),
    progress_bar: bool = True,
) -> Training:
    """Minimise `loss(rng_key, module, data)` over the trainable arrays of `module`.

    The step size is constant until the mean ELBO of the last 100 iterations exceeds that of the
    100 before by less than `tolerance` nats, or the weights are so equal that the ELBO is within
    0.1 nats of the log evidence, or half of the budget is spent; then it falls linearly to zero
    over as many iterations again (half as many where the gap is small), which averages out the
    gradient noise. An update that is not finite is skipped and counted. A collapse of the ELBO
    restores the best parameters so far and halves the step size. The same key gives the same
    result, interrupted and resumed or not.

    Args:
        rng_key: Iteration `i` uses `fold_in(rng_key, i)`.
        module: What is trained; never changed in place.
        loss: Returns the scalar to differentiate and the trajectories, or the losses of draws, to
            report on.
        data: Passed to `loss`; its arrays are arguments of the compiled code, so other data of
            the same shapes cost no compilation.
        optimizer: Any optax transformation.
        num_iterations: Upper bound on the iterations.
        trainable: A filter in Equinox's sense, a predicate or a tree of booleans.
        curriculum: What the loss is shown in place of `data`, such as `nb.Tempering()`.
        tolerance: Smallest rise of the ELBO in nats worth another 100 iterations; 0 uses the whole
            budget.
        checkpoint: File that is written every few seconds and resumed from if it exists.
        devices: Where the trajectories of an iteration are divided among; JAX's default device
            if none are given.
        progress_bar: Show iterations, ELBO, ESS and time left.

    Returns:
        The module with the best parameters seen, and the metrics of every iteration. Ctrl-C
        returns what has been trained so far.

    Raises:
        ValueError: if the checkpoint is of another run (key, data, start, loss, curriculum or
            budget), `num_iterations` is not positive, the curriculum takes more than half of
            them, or `trainable` selects nothing.
    """
    check_count("num_iterations", num_iterations, 1)
    if 2 * curriculum.warm_up > num_iterations:
        raise ValueError(
            f"the curriculum shows the target itself after {curriculum.warm_up} iterations; train "
            f"for at least twice as many, got num_iterations={num_iterations}"
        )
    params, static = eqx.partition(module, trainable)
    if not jax.tree.leaves(params) and jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array)):
        raise ValueError(
            f"trainable selects no array of {type(module).__name__}, so nothing would be trained; "
            "give a function of an array, or a tree of booleans in the shape of the process"
        )
    memory = _first_memory(rng_key, curriculum, module, data)
    state = TrainingState(params, optimizer.init(params), params, memory)
    progress, history = Progress(0, num_iterations, max(1, num_iterations // 2)), []
    run = None
    if checkpoint is not None:
        run = run_of(rng_key, module, state, loss, data, curriculum, num_iterations)
        if os.path.exists(checkpoint):
            state, progress, history = resume(checkpoint, state, run)
    devices = tuple(devices)
    rng_key, state, data = copy_to(devices, (rng_key, state, data))
    chunk = partial(_run_chunk, rng_key, static, loss, data, optimizer, curriculum, devices)
    stopped = "interrupted"
    with Bar(progress, progress_bar) as bar, Keeper(checkpoint, run) as keeper:
        try:
            while progress.iteration < progress.end:
                state, metrics = _timed(chunk, state, progress)
                history.append(metrics)
                state = decide(state, progress, history, optimizer, curriculum.warm_up, tolerance)
                keeper.offer(state, progress, history)
                bar.show(progress, metrics)
            stopped = "plateau" if progress.plateaued else "budget"
        except KeyboardInterrupt:
            pass  # `stopped` says so, and what has been trained is returned
    return Training(
        eqx.combine(copy_back(devices, state.best), static),
        concatenate(history),
        stopped,
        progress.training_time,
        progress.compile_time,
    )


@eqx.filter_jit
def _first_memory(rng_key, curriculum: AbstractCurriculum, module, data):
    return curriculum.start(jax.random.fold_in(rng_key, _CURRICULUM), module, data)


_CURRICULUM = 2**31
"""Folded into the key of a run for the draws of its curriculum; no iteration has this number."""


def _timed(chunk: Callable, state: TrainingState, progress: Progress):
    """Run up to `CHUNK` iterations and book their seconds, compilation apart."""
    size = min(CHUNK, progress.end - progress.iteration)
    before, traces = time.perf_counter(), _num_traces[0]
    state, metrics = chunk(
        state,
        jnp.asarray([progress.iteration, size, progress.end, progress.cooldown]),
        jnp.asarray(progress.rate, jnp.result_type(float)),
    )
    metrics = jax.tree.map(lambda x: np.asarray(x, np.float64)[:size], metrics)
    seconds = time.perf_counter() - before
    if _num_traces[0] > traces:
        progress.compile_time += seconds
    else:
        progress.training_time += seconds
    progress.iteration += size
    return state, metrics


_num_traces = [0]
"""Grows whenever `_run_chunk` is compiled anew; that is how its seconds are told apart."""


@eqx.filter_jit
def _run_chunk(
    rng_key, static, loss, data, optimizer, curriculum, devices, state: TrainingState, counts, rate
):
    """Iterate on the device; the number of iterations is an argument, so there is one program."""
    _num_traces[0] += 1
    first, size, end, cooldown = counts

    def advanced(memory):
        key = jax.random.fold_in(jax.random.fold_in(rng_key, _CURRICULUM + 1), first)
        return curriculum.advance(key, first, memory, eqx.combine(state.params, static), data)

    def iterate(offset, carry):
        state, buffers = carry
        iteration = first + offset
        remaining = (end - iteration) / cooldown
        key = jax.random.fold_in(rng_key, iteration)
        state, metrics = _update(key, state, static, loss, shown, optimizer, rate, remaining)
        return state, jax.tree.map(lambda b, m: b.at[offset].set(m), buffers, metrics)

    buffers = Metrics(*(jnp.zeros(CHUNK, rate.dtype) for _ in Metrics._fields))
    with divided_among(devices):
        state = state._replace(memory=advanced(state.memory))
        shown = curriculum.shown(state.memory, data)
        return jax.lax.fori_loop(0, size, iterate, (state, buffers))


def _update(rng_key, state: TrainingState, static, loss, data, optimizer, rate, remaining):
    """One iteration at the present step size."""
    step_size = rate * jnp.clip(remaining, 0.0, 1.0)
    params, optimizer_state, metrics = gradient_step(
        rng_key, state.params, state.optimizer, static, loss, data, optimizer, step_size
    )
    return state._replace(params=params, optimizer=optimizer_state), metrics


def gradient_step(
    rng_key: RNGKey,
    params: PyTree,
    optimizer_state: PyTree,
    static: PyTree,
    loss: Loss,
    data: Any,
    optimizer: optax.GradientTransformation,
    step_size: Array,
) -> tuple[PyTree, PyTree, Metrics]:
    """One step of the optimiser, times `step_size`; left out where it is not finite."""

    def objective(params):
        return loss(rng_key, eqx.combine(params, static), data)

    (value, runs), gradient = eqx.filter_value_and_grad(objective, has_aux=True)(params)
    finite = _all_finite((value, gradient))
    updates, proposed_state = optimizer.update(gradient, optimizer_state, params)
    # Every optax chain ends in a step proportional to its rate, so scaling the step is scaling it.
    updates = jax.tree.map(lambda u: step_size.astype(u.dtype) * u, updates)
    proposed = (optax.apply_updates(params, updates), proposed_state)
    params, optimizer_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), proposed, (params, optimizer_state)
    )
    skipped = (~finite).astype(step_size.dtype)
    return params, optimizer_state, summarised(runs, skipped)


def _all_finite(tree: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
