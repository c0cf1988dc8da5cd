"""Modes: the places of comparable mass that the starts of a fit lead to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge.atlas.maps import DenseMap


class Modes(NamedTuple):
    """Where the starts ended: one row for each mode, heaviest first."""

    normals: DenseMap
    """A normal distribution at each mode; the leading axis counts the modes."""
    log_mass: Float[Array, " modes"]
    """Log of the mass that each normal distribution accounts for, its ELBO, in nats."""
    num_starts: tuple[int, ...]
    """How many starts ended at each mode."""

    @property
    def locations(self) -> Float[Array, "modes dim"]:
        """The centres of the modes, in the target's own coordinates."""
        return self.normals.location


def distinct_modes(
    normals: DenseMap,
    log_mass: Float[Array, " starts"],
    *,
    min_distance: float = 2.0,
    max_deficit: float = 7.0,
) -> Modes | None:
    """Group the normal distributions that the starts led to into modes that are apart.

    Two of them are apart when their centres differ by more than `min_distance` in units of the
    standard deviation of the difference. One whose mass is smaller than the heaviest by a factor
    `exp(max_deficit)` is no mode: its start got stuck.

    Returns:
        The modes, heaviest first, or None where there is only one.
    """
    mass = np.asarray(log_mass)
    factors, locations = np.asarray(normals.factor, float), np.asarray(normals.location, float)
    covariances = factors @ np.swapaxes(factors, 1, 2)
    leaders: list[int] = []
    counts: list[int] = []
    for fit in np.argsort(-mass):
        if not mass[fit] >= np.max(mass) - max_deficit:
            continue
        for place, leader in enumerate(leaders):
            difference = locations[fit] - locations[leader]
            spread = covariances[fit] + covariances[leader]
            if difference @ np.linalg.solve(spread, difference) < min_distance**2:
                counts[place] += 1
                break
        else:
            leaders.append(int(fit))
            counts.append(1)
    if len(leaders) < 2:
        return None
    chosen = np.asarray(leaders)
    return Modes(jax.tree.map(lambda leaf: leaf[chosen], normals), log_mass[chosen], tuple(counts))


def covering_map(modes: Modes) -> DenseMap:
    """The map whose normal distribution has the mean and covariance of equally weighted modes."""
    locations, factors = modes.normals.location, modes.normals.factor
    mean = jnp.mean(locations, axis=0)
    between = (locations - mean).T @ (locations - mean) / len(locations)
    within = jnp.mean(factors @ jnp.swapaxes(factors, 1, 2), axis=0)
    return DenseMap(mean, jnp.linalg.cholesky(within + between))
