"""Tell apart normal distributions that stand for the same place."""

import numpy as np
from jaxtyping import Float

from numpyro_bridge.atlas.maps import DenseMap

MIN_DISTANCE = 2.0
"""Two centres are apart if they differ by more standard deviations of their difference."""


def distinct(
    normals: DenseMap,
    log_mass: Float[np.ndarray, " normals"],
    *,
    max_deficit: float,
    max_number: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose one normal distribution for each place, the heaviest first.

    Args:
        normals: A batch of normal distributions.
        log_mass: The mass that each accounts for, in nats; not finite where there is none.
        max_deficit: Places are left out if they are lighter than the heaviest by more nats.
        max_number: Number of places at most.

    Returns:
        The indices of the chosen ones, and how many others are at the same place as each.
    """
    mass = np.where(np.isfinite(log_mass), log_mass, -np.inf)
    locations, factors = np.asarray(normals.location, float), np.asarray(normals.factor, float)
    # Climbs to one top differ by rounding, and the earliest of them stands for it.
    leaders: list[int] = []
    whitenings: list[np.ndarray] = []
    counts: list[int] = []
    for one in np.argsort(-np.round(mass, 2), kind="stable").tolist():
        if mass[one] == -np.inf or mass[one] < np.max(mass) - max_deficit:
            break
        place = _place_of(one, leaders, whitenings, locations, factors)
        if place is not None:
            counts[place] += 1
        elif len(leaders) < max_number:
            leaders.append(one)
            whitenings.append(np.linalg.inv(factors[one]))
            counts.append(1)
    return np.asarray(leaders, int), np.asarray(counts, int)


def _place_of(one: int, leaders: list[int], whitenings, locations, factors) -> int | None:
    """Which of the leaders a normal distribution is at; None if it is apart from all."""
    if not leaders:
        return None
    difference = locations[leaders] - locations[one]
    # In units of the leader alone the distance is larger, and most climbs end in one point.
    own = np.sum(np.einsum("kij,kj->ki", np.asarray(whitenings), difference) ** 2, axis=1)
    if np.min(own) < MIN_DISTANCE**2:
        return int(np.argmin(own))
    spread = factors[leaders] @ np.swapaxes(factors[leaders], 1, 2)
    spread = spread + factors[one] @ factors[one].T
    # Scaled, since coordinates may differ by many orders of magnitude.
    scale = 1 / np.sqrt(np.diagonal(spread, axis1=1, axis2=2))
    scaled = spread * scale[:, :, None] * scale[:, None, :]
    solved = np.linalg.solve(scaled, (difference * scale)[:, :, None])[:, :, 0]
    square = np.sum(difference * scale * solved, axis=1)
    nearest = int(np.argmin(square))
    return nearest if square[nearest] < MIN_DISTANCE**2 else None
