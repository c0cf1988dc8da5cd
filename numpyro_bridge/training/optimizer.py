"""The default optimiser: a learning rate for each kind of part."""

import functools
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from numpyro_bridge.objectives.log_evidence import LogEvidence
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import AbstractInitialDistribution
from numpyro_bridge.processes.parts import map_parts
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales

KINDS: dict[type, str] = {
    AnnealingSchedule: "annealing",
    Diffusion: "diffusion",
    UnderdampedScales: "diffusion",
    AbstractInitialDistribution: "diffusion",
    LogEvidence: "log_evidence",
}
"""Which rate of `bridge_optimizer` a part has; that of the controls, if its type is not here."""


# The same object for the same rates: to compiled code, another one would be another optimiser.
@functools.lru_cache
def bridge_optimizer(
    control: float = 2e-3,
    diffusion: float = 2e-3,
    annealing: float = 1e-2,
    log_evidence: float = 5e-2,
    *,
    max_norm: float = 1.0,
) -> optax.GradientTransformation:
    """Adam with a learning rate for each kind of part, after clipping by the global norm.

    Args:
        control: Rate of the controls, and of all arrays that are in no part of another kind.
        diffusion: Rate of the diffusion coefficients and of the initial distribution.
        annealing: Rate of the annealing schedule.
        log_evidence: Rate of the estimate that `trajectory_balance` learns.
        max_norm: Largest gradient norm; Adam is scale free, so this only tames outliers.
    """
    rates = {
        "control": control,
        "diffusion": diffusion,
        "annealing": annealing,
        "log_evidence": log_evidence,
    }
    return optax.chain(
        optax.clip_by_global_norm(max_norm),
        optax.partition({name: optax.adam(rate) for name, rate in rates.items()}, parameter_kinds),
    )


def parameter_kinds(process: PyTree) -> PyTree:
    """Label every array of a process by the type of the part that it is in."""

    def labelled(node: Any) -> Any:
        kind = next((name for part, name in KINDS.items() if isinstance(node, part)), "control")
        return jax.tree.map(lambda _: kind, node)

    return map_parts(labelled, process)
