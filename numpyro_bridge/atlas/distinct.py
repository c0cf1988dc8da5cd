"""Tell apart normal distributions that stand for the same place."""

import numpy as np
from jaxtyping import Float

from numpyro_bridge.atlas.maps import DenseMap

TOP_DISTANCE = 1.0
"""Two tops are apart if they differ by more standard deviations of the narrower one. Climbs to the
same top differ by much less."""

FIT_DISTANCE = 2.0
"""Two fits are apart if they differ by more standard deviations of their difference, or of the
heavier one. Fits to the same place differ by the noise of their draws, and in width."""


def distinct_tops(
    normals: DenseMap,
    log_mass: Float[np.ndarray, " normals"],
    *,
    max_deficit: float,
    max_number: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose one normal distribution for each top of a density, the heaviest first.

    Args:
        normals: A batch of normal distributions, with the curvature of the density at its tops.
        log_mass: The mass that each accounts for, in nats; not finite where there is none.
        max_deficit: Tops are left out if they are lighter than the heaviest by more nats.
        max_number: Number of tops at most.

    Returns:
        The indices of the chosen ones, and how many others are at the same top as each.
    """
    return _distinct(normals, log_mass, max_deficit, max_number, _same_top)


def distinct_fits(
    normals: DenseMap,
    log_mass: Float[np.ndarray, " normals"],
    *,
    max_deficit: float,
    max_number: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The same for normal distributions that were fitted, whose widths need not be alike."""
    return _distinct(normals, log_mass, max_deficit, max_number, _same_fit)


def _distinct(normals: DenseMap, log_mass, max_deficit: float, max_number: int, place_of):
    mass = np.where(np.isfinite(log_mass), log_mass, -np.inf)
    locations, factors = np.asarray(normals.location, float), np.asarray(normals.factor, float)
    # Climbs to one top differ by rounding, and the earliest of them stands for it.
    leaders: list[int] = []
    whitenings: list[np.ndarray] = []
    counts: list[int] = []
    for one in np.argsort(-np.round(mass, 2), kind="stable").tolist():
        if mass[one] == -np.inf or mass[one] < np.max(mass) - max_deficit:
            break
        place = place_of(one, leaders, whitenings, locations, factors) if leaders else None
        if place is not None:
            counts[place] += 1
        elif len(leaders) < max_number:
            leaders.append(one)
            whitenings.append(np.linalg.inv(factors[one]))
            counts.append(1)
    return np.asarray(leaders, int), np.asarray(counts, int)


def _same_top(one: int, leaders: list[int], whitenings, locations, factors) -> int | None:
    """Which of the leaders a normal distribution is at; None if it is apart from all."""
    nearest, square = _nearest(one, leaders, whitenings, locations)
    if square >= TOP_DISTANCE**2:
        return None
    own = np.linalg.solve(factors[one], locations[leaders[nearest]] - locations[one])
    return nearest if own @ own < TOP_DISTANCE**2 else None


def _same_fit(one: int, leaders: list[int], whitenings, locations, factors) -> int | None:
    """The same for fits: whether they are near in units of the leader, or of both together."""
    nearest, square = _nearest(one, leaders, whitenings, locations)
    if square < FIT_DISTANCE**2:
        return nearest
    difference = locations[leaders] - locations[one]
    spread = factors[leaders] @ np.swapaxes(factors[leaders], 1, 2)
    spread = spread + factors[one] @ factors[one].T
    # Scaled, since coordinates may differ by many orders of magnitude.
    scale = 1 / np.sqrt(np.diagonal(spread, axis1=1, axis2=2))
    scaled = spread * scale[:, :, None] * scale[:, None, :]
    solved = np.linalg.solve(scaled, (difference * scale)[:, :, None])[:, :, 0]
    squares = np.sum(difference * scale * solved, axis=1)
    nearest = int(np.argmin(squares))
    return nearest if squares[nearest] < FIT_DISTANCE**2 else None


def _nearest(one: int, leaders: list[int], whitenings, locations) -> tuple[int, float]:
    """The leader in whose own units a place is nearest, and the square of that distance."""
    difference = locations[leaders] - locations[one]
    own = np.sum(np.einsum("kij,kj->ki", np.asarray(whitenings), difference) ** 2, axis=1)
    nearest = int(np.argmin(own))
    return nearest, float(own[nearest])
