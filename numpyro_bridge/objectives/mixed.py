"""A weighted sum of losses."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from numpyro_bridge._core.checks import check_objective
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import Objective
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.trajectory import Trajectory


class Mixed(eqx.Module):
    """The loss that `mixed` makes; compiled code takes the arrays of its parts as arguments."""

    losses: tuple[Objective, ...]
    factors: tuple[float, ...] = eqx.field(static=True)

    @property
    def __name__(self) -> str:
        """What the mixture is called in reports."""
        parts = zip(self.factors, self.losses, strict=True)
        return f"mixed({', '.join(f'{factor:g} {name_of(loss)}' for factor, loss in parts)})"

    def __call__(
        self, rng_key: RNGKey, process: AbstractProcess[Any], target: Target, **settings: Any
    ) -> tuple[Scalar, Trajectory]:
        """The weighted sum of the parts, and the trajectories of the first."""
        results = [loss(rng_key, process, target, **settings) for loss in self.losses]
        values = [factor * value for factor, (value, _) in zip(self.factors, results, strict=True)]
        return jnp.sum(jnp.stack(values)), results[0][1]


def mixed(*parts: tuple[float, Objective]) -> Mixed:
    """Train on several losses at once, such as one that seeks modes and one that covers them.

    >>> objective = nb.mixed((0.9, nb.reverse_kl_ld), (0.1, nb.forward_kl))
    >>> sampler = nb.BridgeSampler(model, objective=objective)

    Args:
        *parts: Pairs of a factor and a loss. All losses are given the same key, so those that run
            the forward chain see the same trajectories.

    Returns:
        A loss; training reports on the trajectories of its first part.

    Raises:
        ValueError: if there are no parts, or one of them is not a pair of a positive number and a
            function that can be called as a loss.
    """
    if not parts or not all(_is_part(part) for part in parts):
        raise ValueError(
            "parts must be pairs of a positive factor and a loss, at least one of them, such as "
            f"nb.mixed((0.9, nb.reverse_kl_ld), (0.1, nb.forward_kl)), got {parts}"
        )
    for _, loss in parts:
        check_objective(loss)
    factors, losses = zip(*parts, strict=True)
    return Mixed(losses, tuple(map(float, factors)))


def _is_part(part: Any) -> bool:
    try:
        factor, loss = part
        return 0 < float(factor) < math.inf and callable(loss)
    except (TypeError, ValueError):  # no pair, or no number
        return False
