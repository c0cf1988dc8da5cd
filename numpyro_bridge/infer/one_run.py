"""One run of a `BridgeSampler`: its stages, from the model to the posterior.

Several processes may do it together. What decides is then computed by the first one alone, and only
training is divided.
"""

import os
import time
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.interrupts import forget_interrupt
from numpyro_bridge._core.keys import fold_in, numbers_of_key, split
from numpyro_bridge._core.memory import memory_limit
from numpyro_bridge._core.stages import stage, stages
from numpyro_bridge._core.together import check_same, from_first, num_together, on_all, together
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.writing import check_writable
from numpyro_bridge.atlas.seen_target import pieces_of, seen_through, view_of
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.absolute import absolute
from numpyro_bridge.infer.coverage import Covered, covered
from numpyro_bridge.infer.need import needs_training
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.seeing import (
    Seen,
    keys_for_charts,
    process_for_each_chart,
    see,
    stacked,
)
from numpyro_bridge.infer.untrained import (
    by_annealed_moves,
    by_moves_on_charts,
    on_charts_after_interrupt,
    on_charts_alone,
    with_doubt,
)
from numpyro_bridge.processes import CMCD
from numpyro_bridge.target import Target, fingerprint
from numpyro_bridge.target.resolve import resolve_target
from numpyro_bridge.training.loop import fit
from numpyro_bridge.training.metrics import concatenate
from numpyro_bridge.training.report import RunReport, Seconds
from numpyro_bridge.training.training import Stop, Training


def run_once(
    sampler: Any, rng_key: RNGKey, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Posterior[Any]:
    """Explore, chart, train where needed, and return the result.

    Args:
        sampler: A `BridgeSampler`, whose settings are read.
        rng_key: The same key gives the same result.
        args: Positional arguments of the model.
        kwargs: Keyword arguments of the model.

    Raises:
        ValueError: if the model cannot be sampled, or another process runs something else.
        RuntimeError: if another process that takes part is lost.
    """
    with stages(sampler.progress_bar), together(sampler.mesh):
        if sampler.checkpoint is not None:
            from_first(lambda: check_writable("checkpoint", sampler.checkpoint))
        return absolute(_posterior(sampler, rng_key, args, kwargs))


def _posterior(sampler, rng_key: RNGKey, args, kwargs) -> Posterior[Any]:
    _check_same_settings(sampler, rng_key)
    stage("reading the model")
    target_key, map_key, process_key, fit_key, last_key = split(rng_key, 5)
    target = _target(sampler, target_key, args, kwargs)
    start = time.perf_counter()
    seen = _seen(sampler, map_key, target)
    report = RunReport(
        objective=name_of(sampler.objective),
        num_gradient_evaluations=seen.num_gradient_evaluations,
        seconds=Seconds(standardise=time.perf_counter() - start),
        num_processes=num_together() if num_together() > 1 else None,
    )
    atlas = seen.atlas
    # Where there are too many places for charts, training these would not find the others.
    if atlas is not None and sampler.process is None and (atlas.good or atlas.overflows):
        return on_charts_alone(process_key, seen, report)
    try:
        posterior = _bridged(sampler, process_key, fit_key, target, seen, report)
    except KeyboardInterrupt:
        if atlas is None:
            raise
        return on_charts_after_interrupt(process_key, target, seen, report)
    if atlas is None:
        return posterior
    alone = None
    if sampler.process is None:
        on_charts = seen._replace(target=atlas.target(target, bridged=False))
        alone = on_charts_alone(process_key, on_charts, posterior.report)
    judged = _covered(last_key, posterior, alone)
    if alone is not None and judged.loses_mass:
        return alone
    return judged.posterior


def _check_same_settings(sampler, rng_key: RNGKey) -> None:
    """Raise an error if processes that do the run together would train differently."""
    check_same(
        {
            "rng_key": numbers_of_key(rng_key),
            "memory limit": memory_limit(),
            "precision": str(jnp.result_type(float)),
            "process": None if sampler.process is None else name_of(sampler.process),
            "objective": name_of(sampler.objective),
            "num_iterations": sampler.num_iterations,
            "num_trajectories": sampler.num_trajectories,
            "tolerance": sampler.tolerance,
            "standardise": None if sampler.standardise is None else name_of(sampler.standardise),
        }
    )


def _target(sampler, rng_key: RNGKey, args, kwargs) -> Target:
    """The target, which has to be the same for all processes that do the run together."""
    target = on_all(
        "reading the model", lambda: resolve_target(rng_key, sampler.model, args, kwargs)
    )
    if num_together() == 1:
        return target
    if not all(
        leaf.is_fully_addressable for leaf in jax.tree.leaves(eqx.filter(target, eqx.is_array))
    ):
        raise ValueError(
            "some of the model's data are divided among processes: give each process all rows, or "
            "divide them among the devices of one process and sample there"
        )
    check_same(fingerprint.fingerprint(target), _other_model)
    reference = from_first(lambda: target.reference)
    return target if reference is None else replace(target, reference=reference)


def _other_model(first: list[float], other: list[float]) -> str | None:
    words = fingerprint.difference(first, other)
    return words and f"another model or other data ({words} in process 0)"


def _seen(sampler, rng_key: RNGKey, target: Target) -> Seen:
    """The target as the first process sees it; the target itself every process has."""

    def seen_by_first():
        found = see(
            rng_key,
            target,
            explore=sampler.explore,
            charts=sampler.charts,
            standardise=sampler.standardise,
            trained=sampler.process is not None,
        )
        return view_of(found.target), found[1:]

    view, how = from_first(seen_by_first)
    return Seen(seen_through(target, view), *how)


def _bridged(sampler, process_key, fit_key, target: Target, seen: Seen, report: RunReport):
    """The posterior by annealed moves where these suffice, else by a trained process."""
    if sampler.process is None and sampler.standardise is None:
        if isinstance(seen.target, StandardisedTarget):
            posterior, report = by_annealed_moves(process_key, target, seen, report)
        else:
            posterior, report = by_moves_on_charts(process_key, seen, report)
        if posterior is not None:
            return posterior
    return _trained(sampler, process_key, fit_key, seen, report)


def _covered(rng_key, posterior: Posterior[Any], alone: Posterior[Any] | None) -> Covered:
    def judged():
        stage("looking for what the sampler does not cover")
        after, loses_mass = covered(rng_key, posterior, alone)
        return after.atlas, after.doubts, loses_mass

    try:
        atlas, doubts, loses_mass = from_first(judged)
        return Covered(replace(posterior, atlas=atlas, doubts=doubts), loses_mass)
    except KeyboardInterrupt:
        forget_interrupt()
        doubt = "Ctrl-C was pressed before it was known whether all of the posterior is covered."
        return Covered(with_doubt(posterior, doubt))


def _trained(sampler, process_key, fit_key, seen: Seen, report: RunReport) -> Posterior[Any]:
    """Train the process on the charts that need it, with one compiled program for all."""
    make = CMCD if sampler.process is None else sampler.process
    stage("compiling the training")
    pieces = pieces_of(seen.target)
    processes = process_for_each_chart(process_key, make, seen.target)
    keys = keys_for_charts(fit_key, len(pieces))
    needed = [True] * len(pieces)
    if sampler.process is None:
        key = fold_in(fit_key, 1)
        share = np.ones(1) if seen.atlas is None else seen.atlas.share
        needed = from_first(lambda: needs_training(key, processes, pieces, share))
    trainings = []
    for number, (key, piece) in enumerate(zip(keys, pieces, strict=True)):
        if needed[number]:
            trainings.append(_trained_on(sampler, key, processes[number], piece, number))
            processes[number] = trainings[-1].module
            if trainings[-1].stopped is Stop.INTERRUPTED:
                break
    process = stacked(processes)
    iterations = sum(training.num_iterations for training in trainings)
    spent = iterations * sampler.num_trajectories * (process.num_steps + 1)
    report = replace(
        report,
        process=type(process).__name__,
        num_gradient_evaluations=(report.num_gradient_evaluations or 0) + spent,
    )
    return Posterior(
        process=process,
        target=seen.target,
        standardisation=seen.standardisation,
        metrics=concatenate([training.metrics for training in trainings]),
        report=report.after(*trainings),
        atlas=seen.atlas,
    )


def _trained_on(sampler, rng_key, process, piece: StandardisedTarget, number: int) -> Training[Any]:
    extra = {} if sampler.trainable is None else {"trainable": sampler.trainable}
    checkpoint = sampler.checkpoint
    if checkpoint is not None and number > 0:
        checkpoint = f"{os.fspath(checkpoint)}.{number}"
    return fit(
        rng_key,
        process,
        sampler.loss,
        piece,
        optimizer=sampler.optimizer,
        num_iterations=sampler.num_iterations,
        curriculum=sampler.curriculum,
        tolerance=sampler.tolerance,
        checkpoint=checkpoint,
        mesh=sampler.mesh,
        progress_bar=sampler.progress_bar,
        **extra,
    )
