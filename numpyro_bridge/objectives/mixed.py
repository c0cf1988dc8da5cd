"""A weighted sum of losses."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import jax.numpy as jnp

from numpyro_bridge._core.checks import check_objective
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.simulate import Trajectory

Objective = Callable[..., tuple[Scalar, Trajectory]]


def mixed(*parts: tuple[float, Objective]) -> Objective:
    """Train on several losses at once, such as one that seeks modes and one that covers them.

        objective = nb.mixed((0.9, nb.reverse_kl_ld), (0.1, nb.forward_kl))

    Args:
        *parts: Factors and losses. All are given the same key, so those that run the forward
            chain see the same trajectories.

    Returns:
        A loss, which reports on the trajectories of the first.

    Raises:
        ValueError: if there is no part, or one is not a pair of a positive number and a loss that
            can be called as one.
    """
    if not parts or not all(_is_part(part) for part in parts):
        raise ValueError(
            "a mixed objective needs parts with positive factors, such as "
            f"(0.9, nb.reverse_kl_ld), got {parts}"
        )
    for _, loss in parts:
        check_objective(loss)

    def objective(
        rng_key: RNGKey, process: AbstractProcess, target: Target, **settings: Any
    ) -> tuple[Scalar, Trajectory]:
        """The weighted sum of the parts."""
        results = [(factor, *loss(rng_key, process, target, **settings)) for factor, loss in parts]
        total = jnp.sum(jnp.stack([factor * value for factor, value, _ in results]))
        return total, results[0][2]

    objective.parts = parts  # for what tells one loss from another
    objective.__name__ = "mixed(" + ", ".join(_name(part) for part in parts) + ")"
    return objective


def _is_part(part: Any) -> bool:
    if not isinstance(part, tuple | list) or len(part) != 2:
        return False
    factor, loss = part
    return isinstance(factor, Real) and 0 < float(factor) < math.inf and callable(loss)


def _name(part: tuple[float, Objective]) -> str:
    factor, loss = part
    return f"{factor:g} {name_of(loss)}"
