"""Refuse what has no finite integral: an improper prior that meets no data, or a flat density."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import Vector
from numpyro_bridge.target.base import Target
from numpyro_bridge.target.endless import endless_coordinates
from numpyro_bridge.target.point import REPLACED_LOG_DENSITY
from numpyro_bridge.target.reference import spacing
from numpyro_bridge.target.refusals import ModelRefusedError

FAR = 1e6, 1e8
"""How far from a start the density is looked at, in unconstrained coordinates: further than data or
another prior can be that make it fall."""

NEAR = 40.0, 80.0
"""The same where it is no number as far out as that, because exp, the map to positive numbers, has
ended: exp(80) is still a number of 32 bits."""

LEAST_FALL = 1.0
"""A density falls by more nats than this between the two, if its integral is finite: even the tail
of a half-Cauchy distribution falls by nine."""

UNOBSERVED = "_unobserved"
"""How the name ends that NumPyro gives to the latent values that `obs_mask=` makes."""

MOST_COORDINATES, MOST_NAMED = 200, 6
"""Coordinates that are looked at, and that a message names."""

NUM_PLACES, DISTANCES = 4, (1e-3, 0.03, 1.0)
"""Places at which a density has to be flat, and distances from each where it has to be so, too."""

FLOOR = 100.0
"""A density that is lower far away than here by more nats stands on a floor, which takes the place
of a density of zero."""


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
    heights = _heights(target, start, jnp.asarray(coordinates), FAR + NEAR)
    heights = np.asarray(heights, float)
    ended = np.any(heights[:2] == REPLACED_LOG_DENSITY, axis=0)
    is_mapped = np.isin(names[coordinates], _mapped_sites(target, start))
    ended &= is_mapped[:, None]
    endless = np.where(ended, _is_flat(*heights[2:]), _is_flat(*heights[:2])).any(axis=1)
    endless_names = dict.fromkeys(names[coordinates[endless]].tolist())
    found = ", ".join(endless_names)
    masked = [name for name in endless_names if name.endswith(UNOBSERVED)]
    if masked:
        site = masked[0].removesuffix(UNOBSERVED)
        raise ModelRefusedError(
            f"The posterior of {masked[0]} is improper. It comes of obs_mask= at site '{site}': "
            "NumPyro gives a value to every entry, and those of observed entries are free. Leave "
            f"out what is missing by numpyro.handlers.mask(mask=...) around '{site}'; or, to "
            "impute it, sample the missing entries at a site of their own, put them into the data "
            "with y.at[missing].set(...), and observe the whole."
        )
    if found:
        raise ModelRefusedError(
            f"The posterior is improper: its density does not fall however far {found} is moved, "
            "so it has no finite integral, and neither NUTS nor a bridge can sample it. No data "
            f"keep {found} from going there (was None passed to the model, or a mask that leaves "
            "all out?), and its prior, with all factors, is flat. Give it a proper prior: for a "
            "scale of a group's effects a half-normal or half-Cauchy one, not 1/scale."
        )
    mapped = coordinates[is_mapped]
    endless = endless_coordinates(target, start, mapped)
    if np.any(endless):
        site = names[mapped[endless]][0]
        raise ModelRefusedError(
            f"The posterior is improper: its density falls as {site} is moved far, and the room "
            "for the other parameters grows as fast, so that it has no finite integral, and "
            "neither NUTS nor a bridge can sample it. The data are too few for so flat a prior: "
            f"give {site} a proper one."
        )


def refuse_flat(target: Target, places: Float[np.ndarray, "places dim"]) -> None:
    """Raise if a log density of no model does not fall along a coordinate, as if it were unused.

    Args:
        target: A target that was made from a log density.
        places: Where the density is high. Elsewhere it may look flat and have an integral: far out
            in the mouth of a funnel, all but one of the coordinates may go anywhere.

    Raises:
        ModelRefusedError: naming the coordinates.
    """
    coordinates = jnp.arange(min(target.dim, MOST_COORDINATES))
    flat = np.ones(len(coordinates), bool)
    for place in _around(places[:NUM_PLACES]):
        heights = _heights(target, on_device(place), coordinates, (0.0, *FAR))
        here, near, far = np.asarray(heights, float)
        # Beside a large constant the fall of a heavy tail may be lost to rounding.
        told_apart = np.vectorize(spacing)(near) < 0.1 * LEAST_FALL
        is_floor = near < here - FLOOR
        flat &= np.any(_is_flat(near, far) & told_apart & ~is_floor, axis=1)
    numbers = np.flatnonzero(flat)
    if len(places) and len(numbers):
        some = ", ".join(f"x[{number}]" for number in numbers[:MOST_NAMED])
        which = f"{some}, ..." if len(numbers) > MOST_NAMED else some
        raise ModelRefusedError(
            f"The log density does not fall however far {which} is moved, on one side or on both, "
            "so that its integral is not finite, and neither NUTS nor a bridge can sample it. Does "
            f"the function read {which}? If it does, add the log density of a proper prior to what "
            "it returns."
        )


def _around(places: Float[np.ndarray, "places dim"]) -> Float[np.ndarray, "more dim"]:
    """The places, and others near to them and less near.

    The top of a ridge that gets thinner and thinner is as high at its end, and has an integral.
    """
    noise = np.random.default_rng(0).normal(size=(len(DISTANCES), *places.shape))
    near = places + np.asarray(DISTANCES)[:, None, None] * noise
    return np.concatenate([places[None], near]).reshape(-1, places.shape[1]).astype(places.dtype)


def _is_flat(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Whether both log densities are numbers, and the farther one is about as high."""
    known = (near > REPLACED_LOG_DENSITY) & (far > REPLACED_LOG_DENSITY)
    return known & (far > near - LEAST_FALL)


def _mapped_sites(target: Target, start: Vector) -> list[str]:
    """Sites whose values are others than their coordinates, which map them to all numbers."""
    values, coordinates = target.constrain(start), target.by_site(start)
    pairs = {
        name: (np.asarray(values[name]), np.asarray(coordinates[name])) for name in coordinates
    }
    return [name for name, (a, b) in pairs.items() if a.shape != b.shape or not np.allclose(a, b)]


@eqx.filter_jit
def _heights(
    target: Target, start: Vector, coordinates, distances: tuple[float, ...]
) -> Float[Array, "distances coordinates sides"]:
    """Log densities at these distances from a start, on both sides along each coordinate."""

    def height(distance, coordinate, side):
        return target.log_density(start.at[coordinate].add(side * distance))

    sides = jnp.asarray([-1.0, 1.0], start.dtype)
    by_side = jax.vmap(height, in_axes=(None, None, 0))
    by_coordinate = jax.vmap(by_side, in_axes=(None, 0, None))
    every = jnp.asarray(distances, start.dtype)
    return jax.vmap(by_coordinate, in_axes=(0, None, None))(every, coordinates, sides)
