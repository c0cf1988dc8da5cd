"""The default optimiser: three learning rates, one for each kind of parameter."""

import functools

import jax
import optax
from jaxtyping import PyTree

LAWS = {"log_diffusion", "log_step_size", "log_friction", "log_mass", "initial"}
"""Fields of a process that shape its noise and its start."""


# The same object for the same rates: to compiled code, another one would be another optimiser.
@functools.lru_cache
def bridge_optimizer(
    control: float = 2e-3,
    laws: float = 2e-3,
    annealing: float = 1e-2,
    log_evidence: float = 5e-2,
    *,
    max_norm: float = 1.0,
) -> optax.GradientTransformation:
    """Adam with a learning rate for each kind of parameter, after clipping by the global norm.

    Args:
        control: Rate of the networks.
        laws: Rate of the diffusion coefficients and of the initial law.
        annealing: Rate of the annealing schedule.
        log_evidence: Rate of the estimate that `trajectory_balance` learns.
        max_norm: Largest gradient norm; Adam is scale free, so this only tames outliers.
    """
    rates = {
        "control": control,
        "laws": laws,
        "annealing": annealing,
        "log_evidence": log_evidence,
    }
    return optax.chain(
        optax.clip_by_global_norm(max_norm),
        optax.partition({name: optax.adam(rate) for name, rate in rates.items()}, parameter_kinds),
    )


def parameter_kinds(process: PyTree) -> PyTree:
    """Label every array "control", "laws", "annealing" or "log_evidence", by its fields."""

    def kind(path, _):
        fields = {key.name for key in path if hasattr(key, "name")}
        for name in ("annealing", "log_evidence"):
            if name in fields:
                return name
        return "laws" if fields & LAWS else "control"

    return jax.tree_util.tree_map_with_path(kind, process)
