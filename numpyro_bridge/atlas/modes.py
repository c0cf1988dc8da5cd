"""Several places of comparable mass: what the starts of a fit tell of a multimodal posterior."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge.atlas.maps import DenseMap


class Modes(NamedTuple):
    """Where the starts ended: one row per place, heaviest first."""

    laws: DenseMap
    """A normal law at each mode; leading axis counts modes."""
    log_mass: Float[Array, " modes"]
    """Log of the mass each law accounts for, its ELBO, in nats."""
    num_starts: tuple[int, ...]
    """How many starts ended there."""

    @property
    def locations(self) -> Float[Array, "modes dim"]:
        """Their centres, in the target's own coordinates."""
        return self.laws.location


def distinct_modes(
    laws: DenseMap,
    log_mass: Float[Array, " starts"],
    *,
    min_distance: float = 2.0,
    max_deficit: float = 7.0,
) -> Modes | None:
    """Group normal laws into places that are apart.

    Two laws are apart when their centres differ by more than `min_distance` in units of the
    standard deviation of the difference; a law whose mass is smaller than the heaviest by a
    factor `exp(max_deficit)` is not a mode but a start that got stuck.

    Returns:
        The modes, heaviest first, or None where there is only one.
    """
    mass = np.asarray(log_mass)
    factors, locations = np.asarray(laws.factor, float), np.asarray(laws.location, float)
    covariances = factors @ np.swapaxes(factors, 1, 2)
    leaders: list[int] = []
    counts: list[int] = []
    for law in np.argsort(-mass):
        if not mass[law] >= np.max(mass) - max_deficit:
            continue
        for place, leader in enumerate(leaders):
            difference = locations[law] - locations[leader]
            spread = covariances[law] + covariances[leader]
            if difference @ np.linalg.solve(spread, difference) < min_distance**2:
                counts[place] += 1
                break
        else:
            leaders.append(int(law))
            counts.append(1)
    if len(leaders) < 2:
        return None
    chosen = np.asarray(leaders)
    return Modes(jax.tree.map(lambda leaf: leaf[chosen], laws), log_mass[chosen], tuple(counts))


def covering_map(modes: Modes) -> DenseMap:
    """The map whose normal law has the mean and covariance of the modes, weighed equally."""
    locations, factors = modes.laws.location, modes.laws.factor
    mean = jnp.mean(locations, axis=0)
    between = (locations - mean).T @ (locations - mean) / len(locations)
    within = jnp.mean(factors @ jnp.swapaxes(factors, 1, 2), axis=0)
    return DenseMap(mean, jnp.linalg.cholesky(within + between))
