"""Training: one compiled loop in chunks for any module and any loss."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from numpyro_bridge._core.checks import (
    check_count,
    check_flag,
    check_function,
    check_instance,
    check_key,
    check_not_negative,
    check_optimizer,
    check_trainable,
    described,
)
from numpyro_bridge._core.devices import (
    Device,
    copy_back,
    copy_to,
    divided_among,
    gathered,
    mesh_of,
)
from numpyro_bridge._core.finite import all_finite, where
from numpyro_bridge._core.interrupts import forget_interrupt, noticed_interrupts
from numpyro_bridge._core.sameness import Same
from numpyro_bridge._core.stopwatch import stopwatch
from numpyro_bridge._core.together import (
    check_same,
    from_first,
    interrupt_all,
    num_together,
    together,
)
from numpyro_bridge._core.types import PyTree, RNGKey, Scalar
from numpyro_bridge._core.writing import check_writable
from numpyro_bridge.objectives.curricula import AbstractCurriculum, Unchanged
from numpyro_bridge.target import Target
from numpyro_bridge.training.checkpoints import Keeper, resume
from numpyro_bridge.training.metrics import (
    AbstractFitMetrics,
    FitMetrics,
    TrajectoryMetrics,
    concatenate,
)
from numpyro_bridge.training.progress import Bar
from numpyro_bridge.training.run_identity import difference, run_of
from numpyro_bridge.training.state import Progress, TrainingState, decide
from numpyro_bridge.training.training import Stop, Training

Loss = Callable[[RNGKey, Any, Any], tuple[Scalar, Any]]

CHUNK = 25
"""Iterations per call of the compiled loop: many enough to hide its overhead, few for Ctrl-C."""

UNCHANGED = Unchanged()


def fit(
    rng_key: RNGKey,
    module: eqx.Module,
    loss: Loss,
    data: Any,
    *,
    optimizer: optax.GradientTransformation,
    num_iterations: int,
    trainable: Callable[[Any], bool] | PyTree = eqx.is_inexact_array,
    curriculum: AbstractCurriculum[Any] = UNCHANGED,
    tolerance: float = 0.01,
    metrics: type[FitMetrics] = TrajectoryMetrics,  # pyright: ignore[reportArgumentType]
    checkpoint: str | os.PathLike[str] | None = None,
    devices: Sequence[Device] | None = None,
    mesh: Mesh | None = None,
    progress_bar: bool = True,
) -> Training[FitMetrics]:
    """Minimise `loss(rng_key, module, data)` over the trainable arrays of `module`.

    >>> fit = partial(nb.training.fit, optimizer=nb.bridge_optimizer(), num_iterations=50)
    >>> training = fit(key, process, partial(nb.reverse_kl_ld, num_trajectories=32), target)

    `training.state` explains when the step size falls and when training ends. An update that is not
    finite is skipped and counted. The same key gives the same result, even if training is
    interrupted and resumed. Ctrl-C returns what has been trained so far.

    Args:
        rng_key: A JAX key; iteration `i` uses `fold_in(rng_key, i)`.
        module: The module to train; it is never changed in place.
        loss: Returns a scalar, and what metrics are made from: trajectories, or losses of draws.
        data: Passed to `loss`; other data of the same shapes need no new compilation.
        optimizer: Any optax transformation.
        num_iterations: The largest number of iterations.
        trainable: A filter in Equinox's sense: a predicate or a tree of booleans.
        curriculum: Decides what the loss is shown in place of `data`, such as `nb.Tempering()`.
        tolerance: Training ends when the ELBO rises by fewer nats in 100 iterations; 0 for never.
        metrics: What is kept: `TrajectoryMetrics`, or `LossMetrics` where draws have losses.
        checkpoint: A file that is written every few seconds, and resumed from if it exists.
        devices: The devices that share the trajectories; JAX's default device if none are given.
        mesh: A mesh of devices instead, as `BridgeSampler` takes it.
        progress_bar: Whether to show iterations, ELBO, ESS and the time left.

    Raises:
        ValueError: if the checkpoint is that of another run, `num_iterations` is not positive, the
            curriculum takes more than half of the iterations, or `trainable` selects nothing.
    """
    _check_parts(rng_key, module, loss, optimizer, trainable, metrics, progress_bar)
    num_iterations = _check_budget(num_iterations, curriculum)
    settings = (loss, optimizer, curriculum, metrics, mesh_of(devices, mesh))
    tolerance = check_not_negative("tolerance", tolerance)
    params, static = _divided(module, trainable)
    decision = partial(decide, optimizer=optimizer, warm_up=curriculum.warm_up, tolerance=tolerance)
    with together(settings[-1]):
        begin = partial(_begun, rng_key, module, params, data, settings, num_iterations)
        run, state, progress, history = begin(checkpoint)
        with Bar(progress, progress_bar) as bar, Keeper(checkpoint, run) as keeper:
            watchers = (decision, keeper, bar)
            return _trained(rng_key, state, static, data, settings, progress, history, watchers)


def _begun(rng_key, module, params, data, settings, num_iterations: int, checkpoint):
    """What identifies the run, and the state, the progress and the history to start from."""
    loss, optimizer, curriculum, metrics, _ = settings
    if checkpoint is not None:
        from_first(lambda: check_writable("checkpoint", checkpoint))
    memory = _first_memory(rng_key, curriculum, module, data)
    state, run = TrainingState(params, optimizer.init(params), params, memory), None
    if checkpoint is not None or num_together() > 1:
        run = run_of(rng_key, module, state, loss, data, curriculum, num_iterations)
        check_same(run, difference)

    def begun():
        if run is not None and checkpoint is not None and os.path.exists(checkpoint):
            return resume(checkpoint, state, run, metrics)
        return state, Progress(0, num_iterations, max(1, num_iterations // 2)), []

    return run, *from_first(begun)


def _trained(rng_key, state, static, data, settings, progress, history, watchers) -> Training[Any]:
    """Run chunk after chunk until training is decided to end, or Ctrl-C is pressed."""
    loss, optimizer, curriculum, metrics, mesh = settings
    decision, keeper, bar = watchers
    rng_key, state, data = copy_to(mesh, (rng_key, state, data))
    chunk = partial(
        _run_chunk, rng_key, static, loss, data, Same(optimizer), curriculum, metrics, mesh
    )
    stopped = Stop.INTERRUPTED
    log_scale = data.innermost.log_scale if isinstance(data, Target) else 0.0
    try:
        with noticed_interrupts():
            while progress.iteration < progress.end:
                interrupt_all()
                state, latest = _timed(chunk, state, progress)
                history.append(latest)
                state = decision(state, progress, history)
                keeper.offer(state, progress, history)
                bar.show(progress, latest.raised(log_scale))
        stopped = Stop.PLATEAU if progress.plateaued else Stop.BUDGET
    except KeyboardInterrupt:
        forget_interrupt()  # `stopped` says so, and what has been trained is returned
    return Training(
        eqx.combine(copy_back(mesh, state.best), static),
        concatenate([metrics.blank(0), *history]),
        stopped,
        progress.training_time,
        progress.compile_time,
    )


def _divided(module: eqx.Module, trainable: Any) -> tuple[Any, Any]:
    """Split a module into the arrays that are trained and all the rest."""
    params, static = eqx.partition(module, trainable)
    if not jax.tree.leaves(params) and jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array)):
        raise ValueError(
            f"trainable selects no array of {type(module).__name__}, so nothing would be trained; "
            "give a function of an array, or a tree of booleans in the shape of the process"
        )
    return params, static


def _check_parts(rng_key, module, loss, optimizer, trainable, metrics, progress_bar) -> None:
    check_key(rng_key)
    check_flag("progress_bar", progress_bar)
    check_instance("module", module, eqx.Module, "nb.CMCD(rng_key, dim)")
    check_function("loss", loss, "partial(nb.reverse_kl_ld, num_trajectories=256)")
    check_optimizer(optimizer)
    check_trainable(trainable)
    if trainable is None:
        raise ValueError("trainable must be a filter, such as eqx.is_inexact_array, got None")
    if not (isinstance(metrics, type) and issubclass(metrics, AbstractFitMetrics)):
        raise ValueError(
            "metrics must be a class such as nb.training.TrajectoryMetrics, got "
            f"{described(metrics)}"
        )


def _check_budget(num_iterations: Any, curriculum: Any) -> int:
    such_as = "nb.Tempering() or nb.ReplayBuffer()"
    check_instance("curriculum", curriculum, AbstractCurriculum, such_as)
    num_iterations = check_count("num_iterations", num_iterations, 1)
    if 2 * curriculum.warm_up > num_iterations:
        raise ValueError(
            f"the curriculum shows the target itself after {curriculum.warm_up} iterations; train "
            f"for at least twice as many, got num_iterations={num_iterations}"
        )
    return num_iterations


@eqx.filter_jit
def _first_memory(rng_key, curriculum: AbstractCurriculum[Any], module, data):
    return curriculum.start(jax.random.fold_in(rng_key, _CURRICULUM), module, data)


_CURRICULUM = 2**31
"""Folded into a run's key for the draws of its curriculum; no iteration has so high a number."""


def _timed(chunk: Callable[..., Any], state: TrainingState, progress: Progress):
    """Run up to `CHUNK` iterations, and add their seconds to the progress, compilation apart."""
    size = min(CHUNK, progress.end - progress.iteration)
    with stopwatch() as watch:
        state, latest = chunk(
            state,
            jnp.asarray([progress.iteration, size, progress.end, progress.cooldown]),
            jnp.asarray(progress.rate, jnp.result_type(float)),
        )
        latest = jax.tree.map(lambda x: np.asarray(x, np.float64)[:size], latest)
        latest = from_first(lambda: latest)  # what is decided by them is decided alike
    progress.compile_time += watch.compiling
    progress.training_time += watch.running
    progress.iteration += size
    return state, latest


@eqx.filter_jit
def _run_chunk(
    rng_key,
    static,
    loss,
    data,
    optimizer: Same,
    curriculum,
    metrics: type[FitMetrics],
    mesh: Mesh | None,
    state: TrainingState,
    counts,
    rate,
):
    """Iterate on the device; one program will do, since the number of iterations is an argument."""
    first, size, end, cooldown = counts

    def advanced(memory):
        key = jax.random.fold_in(jax.random.fold_in(rng_key, _CURRICULUM + 1), first)
        return curriculum.advance(key, first, memory, eqx.combine(state.params, static), data)

    def iterate(offset, carry):
        state, buffers = carry
        iteration = first + offset
        remaining = (end - iteration) / cooldown
        key = jax.random.fold_in(rng_key, iteration)
        step_size = rate * jnp.clip(remaining, 0.0, 1.0)
        params, optimizer_state, latest = gradient_step(
            key,
            state.params,
            state.optimizer,
            static,
            loss,
            shown,
            optimizer.value,
            step_size,
            metrics,
        )
        state = state._replace(params=params, optimizer=optimizer_state)
        return state, jax.tree.map(lambda b, m: b.at[offset].set(m), buffers, latest)

    buffers = jax.tree.map(lambda x: jnp.asarray(x, rate.dtype), metrics.blank(CHUNK))
    with divided_among(mesh):
        state = state._replace(memory=advanced(state.memory))
        shown = curriculum.shown(state.memory, data)
        return gathered(jax.lax.fori_loop(0, size, iterate, (state, buffers)))


def gradient_step(
    rng_key: RNGKey,
    params: PyTree,
    optimizer_state: PyTree,
    static: PyTree,
    loss: Loss,
    data: Any,
    optimizer: optax.GradientTransformation,
    step_size: Array,
    metrics: type[FitMetrics] = TrajectoryMetrics,  # pyright: ignore[reportArgumentType]
) -> tuple[PyTree, PyTree, FitMetrics]:
    """Take one step of the optimiser, scaled by `step_size`; skip it if it is not finite."""

    def objective(params):
        return loss(rng_key, eqx.combine(params, static), data)

    (value, report), gradient = eqx.filter_value_and_grad(objective, has_aux=True)(params)
    updates, proposed_state = optimizer.update(gradient, optimizer_state, params)
    # The step of an optax chain is proportional to its rate: scaling one is scaling the other.
    updates = jax.tree.map(lambda u: step_size.astype(u.dtype) * u, updates)
    proposed = optax.apply_updates(params, updates)
    # Of the optimiser's own state nothing is asked: it may hold an infinity on purpose.
    finite = all_finite((value, gradient, proposed))
    params, optimizer_state = where(finite, (proposed, proposed_state), (params, optimizer_state))
    skipped = (~finite).astype(step_size.dtype)
    return params, optimizer_state, metrics.of(report, skipped)
