"""The default optimiser: three learning rates, one for each kind of parameter."""

import jax
import optax
from jaxtyping import PyTree

LAWS = ("log_diffusion", "initial_law")
"""Fields of a process that shape its noise and its start."""


def bridge_optimizer(
    control: float = 2e-3,
    laws: float = 2e-3,
    annealing: float = 1e-2,
    *,
    max_norm: float = 1.0,
) -> optax.GradientTransformation:
    """Adam with a learning rate for each kind of parameter, after clipping by the global norm.

    Args:
        control: Rate of the networks.
        laws: Rate of the diffusion coefficients and of the initial law.
        annealing: Rate of the annealing schedule.
        max_norm: Largest gradient norm; Adam is scale free, so this only tames outliers.
    """
    rates = {"control": control, "laws": laws, "annealing": annealing}
    return optax.chain(
        optax.clip_by_global_norm(max_norm),
        optax.partition({name: optax.adam(rate) for name, rate in rates.items()}, parameter_kinds),
    )


def parameter_kinds(process: PyTree) -> PyTree:
    """Label every array of a process "control", "laws" or "annealing", by the field it is in."""

    def kind(path, _):
        field = path[0].name
        if field == "annealing":
            return "annealing"
        return "laws" if field in LAWS else "control"

    return jax.tree_util.tree_map_with_path(kind, process)
