"""Which sites a user wants to keep of each draw, and how many numbers that takes."""

import math
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from numpyro_bridge._core.checks import check_names
from numpyro_bridge._core.types import Vector
from numpyro_bridge.target import Target


class KeptSites(eqx.Module):
    """The sites to keep, by name."""

    names: tuple[str, ...] = eqx.field(static=True)
    num_numbers: int = eqx.field(static=True)
    """How many numbers they have for each draw."""

    def values(self, target: Target, position: Vector) -> dict[str, Array]:
        """Their values at a position."""
        values = target.constrain(position)
        return {name: values[name] for name in self.names}


def kept_sites(target: Target, exclude: Iterable[str] = ()) -> KeptSites:
    """All sites but those that are excluded.

    Raises:
        ValueError: if `exclude` names anything but deterministic sites.
    """
    shapes = _shapes(target)
    names = check_names("exclude", exclude, '["mean"]')
    deterministic = [name for name in shapes if target.sites and name not in target.sites]
    wrong = [name for name in names if name not in deterministic]
    if wrong:
        raise ValueError(
            f"exclude should name deterministic sites, which are {deterministic}, but it has "
            f"{wrong}. Latent sites are what is drawn: leave them out of "
            "nb.to_inference_data(draws, exclude=[...])"
        )
    kept = {name: math.prod(shape) for name, shape in shapes.items() if name not in names}
    return KeptSites(tuple(kept), sum(kept.values()))


def _shapes(target: Target) -> dict[str, tuple[int, ...]]:
    position = jax.ShapeDtypeStruct((target.dim,), jnp.result_type(float))
    values: Any = eqx.filter_eval_shape(lambda target, x: target.constrain(x), target, position)
    return {name: value.shape for name, value in values.items()}
