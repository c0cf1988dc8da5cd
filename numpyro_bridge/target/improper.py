"""Refuse a posterior that has no finite integral, since an improper prior meets no data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.types import Vector
from numpyro_bridge.target.base import Target
from numpyro_bridge.target.point import REPLACED_LOG_DENSITY
from numpyro_bridge.target.refusals import ModelRefusedError

FAR = 1e6, 1e8
"""How far from a start the density is looked at, in unconstrained coordinates: further than data or
another prior can be that make it fall."""

LEAST_FALL = 1.0
"""A density falls by more nats than this between the two, if its integral is finite: even the tail
of a half-Cauchy distribution falls by nine."""

MOST_COORDINATES = 200
"""Coordinates that are looked at."""


def refuse_improper(target: Target, start: Vector) -> None:
    """Raise if the log density does not fall along a coordinate whose prior is improper.

    Args:
        target: The target of a model with improper priors.
        start: A position where the density is finite.

    Raises:
        ModelRefusedError: naming the sites, if the posterior is improper in their direction.
    """
    names = np.repeat(list(target.sites), [int(np.prod(s)) for s in target.sites.values()])
    coordinates = np.flatnonzero(np.isin(names, target.improper_sites))[:MOST_COORDINATES]
    near, far = np.asarray(_heights(target, start, jnp.asarray(coordinates)), float)
    known = (near > REPLACED_LOG_DENSITY) & (far > REPLACED_LOG_DENSITY)
    endless = np.any(known & (far > near - LEAST_FALL), axis=1)
    found = ", ".join(dict.fromkeys(names[coordinates[endless]].tolist()))
    if found:
        raise ModelRefusedError(
            f"The posterior is improper: its density does not fall however far {found} is moved, "
            "so it has no finite integral, and neither NUTS nor a bridge can sample it. No data "
            f"say where {found} is (was None passed to the model, or a mask that leaves all out?), "
            "and its prior is flat. Give it a proper prior, or the data."
        )


@eqx.filter_jit
def _heights(target: Target, start: Vector, coordinates) -> Float[Array, "2 coordinates sides"]:
    """Log densities at both distances, on both sides along each coordinate."""

    def height(distance, coordinate, side):
        return target.log_density(start.at[coordinate].add(side * distance))

    sides = jnp.asarray([-1.0, 1.0], start.dtype)
    by_side = jax.vmap(height, in_axes=(None, None, 0))
    by_coordinate = jax.vmap(by_side, in_axes=(None, 0, None))
    distances = jnp.asarray(FAR, start.dtype)
    return jax.vmap(by_coordinate, in_axes=(0, None, None))(distances, coordinates, sides)
