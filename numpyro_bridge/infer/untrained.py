"""Posteriors of which nothing was trained: because nothing had to be, or because of Ctrl-C."""

import time
from dataclasses import replace
from typing import Any

from numpyro_bridge._core.interrupts import forget_interrupt
from numpyro_bridge._core.stages import stage
from numpyro_bridge._core.together import from_first
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.atlas import one_chart
from numpyro_bridge.atlas.seen_target import pieces_of
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.annealed import annealed, annealed_on_charts
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.seeing import Seen, stacked
from numpyro_bridge.processes import Direct
from numpyro_bridge.target import Target
from numpyro_bridge.training.report import RunReport, Seconds
from numpyro_bridge.training.training import Stop


def on_charts_alone(rng_key: RNGKey, seen: Seen, report: RunReport) -> Posterior[Any]:
    """The posterior whose draws are those of the charts.

    Args:
        rng_key: A JAX key, by which a process of no steps is made.
        seen: The target on its charts.
        report: What was done and spent so far.
    """
    assert seen.atlas is not None
    process = Direct(rng_key, seen.target.dim)
    return Posterior(
        process=stacked([process] * seen.atlas.num_charts),
        target=seen.target,
        standardisation=seen.standardisation,
        metrics=None,
        report=replace(report, process="Direct", objective=None),
        atlas=seen.atlas,
        doubts=seen.atlas.doubts,
    )


def on_charts_after_interrupt(
    rng_key: RNGKey, target: Target, seen: Seen, report: RunReport
) -> Posterior[Any]:
    """What there is when Ctrl-C comes between charting and training: the charts.

    Args:
        rng_key: A JAX key, by which a process of no steps is made.
        target: The target in its own coordinates.
        seen: The target on its charts.
        report: What was done and spent so far.
    """
    forget_interrupt()
    assert seen.atlas is not None
    seen = seen._replace(target=seen.atlas.target(target, bridged=False))
    report = replace(report, stopped=Stop.INTERRUPTED, num_iterations=0)
    return with_doubt(
        on_charts_alone(rng_key, seen, report),
        "Ctrl-C was pressed before anything was trained: these are draws of the charts, which did "
        "not suffice.",
    )


def with_doubt(posterior: Posterior[Any], doubt: str) -> Posterior[Any]:
    """The same posterior with one more sentence in its verdict."""
    return replace(posterior, doubts=(*posterior.doubts, doubt))


def by_annealed_moves(
    rng_key: RNGKey, target: Target, seen: Seen, report: RunReport
) -> tuple[Posterior[Any] | None, RunReport]:
    """The posterior by a process that needs no training; None where training is better.

    Args:
        rng_key: Randomness of the paths by which the moves are chosen.
        target: The target in its own coordinates.
        seen: The target through one map.
        report: What was done and spent so far. The one that is returned counts what was tried here.
    """
    start = time.perf_counter()
    stage("choosing the annealed moves")
    found = from_first(lambda: annealed(rng_key, target, seen.standardisation))
    took = time.perf_counter() - start
    chosen, place, atlas = found.standardisation, seen.exploration, seen.atlas
    spent = found.num_gradient_evaluations + chosen.num_gradient_evaluations
    spent += sum(one.num_gradient_evaluations for one in (place, atlas) if one is not None)
    if place is not None:
        atlas = one_chart(chosen, place, found.log_weight)
    report = replace(
        report,
        num_gradient_evaluations=spent,
        seconds=Seconds(standardise=(report.seconds.standardise or 0.0) + took),
    )
    if seen.atlas is not None and not found.sure:
        return None, report
    report = replace(report, process=type(found.process).__name__, objective=None)
    posterior = Posterior(
        process=found.process,
        target=StandardisedTarget(target, chosen.map),
        standardisation=chosen,
        metrics=None,
        report=report,
        atlas=atlas,
    )
    return posterior, report


def by_moves_on_charts(
    rng_key: RNGKey, seen: Seen, report: RunReport
) -> tuple[Posterior[Any] | None, RunReport]:
    """The posterior by annealed moves on every chart; None where training is better.

    Args:
        rng_key: Randomness of the paths by which the moves are chosen.
        seen: The target on its charts.
        report: What was done and spent so far. The one that is returned counts what was tried here.
    """
    start = time.perf_counter()
    stage("choosing the annealed moves")
    assert seen.atlas is not None
    share = seen.atlas.share
    found = from_first(lambda: annealed_on_charts(rng_key, pieces_of(seen.target), share))
    took = time.perf_counter() - start
    report = replace(
        report,
        num_gradient_evaluations=(report.num_gradient_evaluations or 0)
        + found.num_gradient_evaluations,
        seconds=Seconds(standardise=(report.seconds.standardise or 0.0) + took),
    )
    if found.processes is None:
        return None, report
    process = stacked(found.processes)
    report = replace(report, process=type(process).__name__, objective=None)
    posterior = Posterior(
        process=process,
        target=seen.target,
        standardisation=seen.standardisation,
        metrics=None,
        report=report,
        atlas=seen.atlas,
    )
    return posterior, report
