"""The default optimiser, with a learning rate for each kind of part of a process."""

import functools
import math
from typing import Any

import jax
import optax

from numpyro_bridge._core.checks import check_not_negative, check_positive
from numpyro_bridge._core.types import PyTree
from numpyro_bridge.objectives.log_evidence import LogEvidence
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import AbstractInitialDistribution
from numpyro_bridge.processes.parts import map_parts
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from numpyro_bridge.training.remade import Remade

KINDS: dict[type, str] = {
    AnnealingSchedule: "annealing",
    Diffusion: "diffusion",
    UnderdampedScales: "diffusion",
    AbstractInitialDistribution: "diffusion",
    LogEvidence: "log_evidence",
}
"""Which rate of `bridge_optimizer` a type of part has; all others have that of the controls."""


def bridge_optimizer(
    control: float = 2e-3,
    diffusion: float = 2e-3,
    annealing: float = 1e-2,
    log_evidence: float = 5e-2,
    *,
    max_norm: float = 1.0,
) -> optax.GradientTransformation:
    """Adam with a learning rate for each kind of part, on gradients clipped by their global norm.

    >>> optimizer = nb.bridge_optimizer(control=5e-4)
    >>> sampler = nb.BridgeSampler(model, optimizer=optimizer)

    A rate is a number, or a schedule of optax.

    Args:
        control: Rate of the controls, and of all arrays that are in no part of another kind.
        diffusion: Rate of the diffusion coefficients and of the initial distribution.
        annealing: Rate of the annealing schedule.
        log_evidence: Rate of the estimate that `trajectory_balance` learns.
        max_norm: Largest norm of the gradient. Adam is scale free, so this only tames outliers.
    """
    rates = {
        "control": control,
        "diffusion": diffusion,
        "annealing": annealing,
        "log_evidence": log_evidence,
    }
    checked = tuple(
        (name, rate if callable(rate) else check_not_negative(name, rate))
        for name, rate in rates.items()
    )
    if max_norm != math.inf:
        max_norm = check_positive("max_norm", max_norm)
    try:
        return _made(checked, max_norm)
    except TypeError:  # a schedule that has no hash, such as a module with arrays
        return _made.__wrapped__(checked, max_norm)


# The same rates give the same object: compiled code would take a new object for a new optimiser.
@functools.lru_cache
def _made(rates: tuple[tuple[str, Any], ...], max_norm: float) -> optax.GradientTransformation:
    optimizer = optax.chain(
        optax.clip_by_global_norm(max_norm),
        optax.partition({name: optax.adam(rate) for name, rate in rates}, parameter_kinds),
    )
    return Remade.of(optimizer, functools.partial(_made, rates, max_norm))


def parameter_kinds(process: PyTree) -> PyTree:
    """Label every array of a process by the kind of part that it belongs to."""

    def labelled(node: Any) -> Any:
        kind = next((name for part, name in KINDS.items() if isinstance(node, part)), "control")
        return jax.tree.map(lambda _: kind, node)

    return map_parts(labelled, process)
