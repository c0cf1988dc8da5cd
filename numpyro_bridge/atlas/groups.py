"""Groups of draws that lie apart: each becomes a chart."""

import numpy as np
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.mixture_fit import NormalMixture, fit_mixture, numpy_generator
from numpyro_bridge.atlas.partition import DEGREES_OF_FREEDOM
from numpyro_bridge.atlas.repair import WeightedNormals, normal_of
from numpyro_bridge.atlas.stacked import stack

POOL = 2_000
"""Draws that are looked at, at most; they are resampled by their weights."""

FEWEST = 20
"""Distinct draws in a group at least, and twice as many as there are dimensions."""

DEEPEST_VALLEY = 0.05
"""Two tops belong to different groups if between them the density falls below this share of the
lower one. Two equal normal distributions are then 5.4 standard deviations apart, or more."""

NUM_BETWEEN = 31
"""Places on the line between two components where their density is compared with the ends."""

LARGEST_OVERLAP = 0.01
"""Groups are joined if two of them claim more than this share of the draws of the smaller one."""

MAX_DIRECTIONS = 8
"""Directions in which the mixture is fitted; in more of them it would need too many draws."""

NUM_FITS = 3
"""Fits that have to see a single group before draws count as one; any of them may go astray."""

NUM_REASSIGNED = 3
"""How often draws are assigned anew to the groups that they are nearest to."""


def groups_of(
    rng_key: RNGKey,
    position: Float[Array, "num dim"],
    log_weight: Float[Array, " num"],
    most: int,
) -> WeightedNormals | None:
    """Divide weighted draws into groups between which there is hardly any density.

    A mixture of normal distributions is fitted to the draws, with as many components as the
    Bayesian information criterion asks for. Components belong to one group if a path from centre to
    centre leads from one to the other without a deep valley of the mixture's density. Groups that
    then overlap are joined. So a skewed or curved posterior is one group, however many components
    describe it. Each group is divided in the same way, until none of them can be.

    In more than eight dimensions the mixture is fitted in the eight coordinates and principal
    directions in which a cut divides the draws best.

    Args:
        rng_key: Randomness of the fit.
        position: Draws, one a row; those that are not finite are left out.
        log_weight: Their log weights.
        most: Number of groups at most; if there are more, the nearest to each other are joined.

    Returns:
        The normal distribution of each group and the log of its share of the weight, the heaviest
        first; None where there is a single group.
    """
    rng = numpy_generator(rng_key)
    points, number = _pool(rng, np.asarray(position, float), np.asarray(log_weight, float))
    if most == 1 or len(points) < 2:
        return None
    groups = _joined(points, _divided(rng, points, number), most)
    if len(groups) == 1:
        return None
    count = np.asarray([len(group) for group in groups])
    order = np.argsort(-count, kind="stable")
    normals = stack([normal_of(points[groups[group]]) for group in order])
    return normals, np.log(count[order] / len(points))


def _pool(rng, position: np.ndarray, log_weight: np.ndarray):
    """Equally weighted draws and their row numbers: no more than the weights are worth."""
    usable = np.flatnonzero(np.all(np.isfinite(position), axis=1) & np.isfinite(log_weight))
    if not len(usable):
        return position[:0], usable
    weight = np.exp(log_weight[usable] - np.max(log_weight[usable]))
    weight /= weight.sum()
    if np.ptp(weight) == 0:
        chosen = np.sort(rng.permutation(usable)[:POOL])
        return position[chosen], chosen
    num = int(np.clip(1 / np.sum(weight**2), 1, POOL))
    chosen = np.searchsorted(np.cumsum(weight), (np.arange(num) + rng.uniform()) / num)
    chosen = usable[np.minimum(chosen, len(usable) - 1)]
    return position[chosen], chosen


def _divided(rng, points: np.ndarray, number: np.ndarray) -> list[Int[np.ndarray, " _"]]:
    """The indices of the points in each group; one group where there is nothing to divide."""
    fewest = max(FEWEST, 2 * (points.shape[1] + 1))
    if len(np.unique(number)) < 2 * fewest:
        return [np.arange(len(points))]
    inside = _whitened(_in_best_directions(points))
    for _ in range(NUM_FITS):
        groups = _told_apart(rng, inside, number, fewest)
        if len(groups) > 1:
            parts = [_divided(rng, points[group], number[group]) for group in groups]
            return [group[part] for group, own in zip(groups, parts, strict=True) for part in own]
    return [np.arange(len(points))]


def _told_apart(rng, points: np.ndarray, number: np.ndarray, fewest: int) -> list[np.ndarray]:
    """The groups that one fit of a mixture sees, each with so many distinct draws at least."""
    mixture = fit_mixture(rng, points)
    leader = _leaders(mixture)[np.argmax(_log_parts(mixture, points), axis=1)]
    groups = _reassigned(points, [np.flatnonzero(leader == one) for one in np.unique(leader)])
    # A handful of draws, or many copies of a few, is no group.
    groups = [group for group in groups if len(np.unique(number[group])) >= fewest]
    return _apart(points, _reassigned(points, groups)) if len(groups) > 1 else groups


def _whitened(points: np.ndarray) -> np.ndarray:
    whole = normal_of(points)
    factor, location = np.asarray(whole.factor, float), np.asarray(whole.location, float)
    return np.linalg.solve(factor, (points - location).T).T


def _in_best_directions(points: np.ndarray) -> np.ndarray:
    """The points along those coordinates and principal directions that a cut divides best."""
    num, dim = points.shape
    if dim <= MAX_DIRECTIONS:
        return points
    scaled = (points - np.mean(points, axis=0)) / (np.std(points, axis=0) + 1e-300)
    principal = scaled @ np.linalg.eigh(scaled.T @ scaled)[1]
    along = np.concatenate([scaled, principal / (np.std(principal, axis=0) + 1e-300)], axis=1)
    # How much two normal distributions explain better than one, for every cut of sorted values.
    ordered = np.sort(along, axis=0)
    left = np.arange(FEWEST, num - FEWEST)[:, None]
    sums, squares = np.cumsum(ordered, axis=0), np.cumsum(ordered**2, axis=0)
    gain = np.zeros(len(left))[:, None]
    for count, total, square in (
        (left, sums[left[:, 0] - 1], squares[left[:, 0] - 1]),
        (num - left, sums[-1] - sums[left[:, 0] - 1], squares[-1] - squares[left[:, 0] - 1]),
    ):
        variance = np.maximum(square / count - (total / count) ** 2, 1e-12)
        gain = gain + count / num * (np.log(count / num) - 0.5 * np.log(variance))
    return along[:, np.argsort(-np.max(gain, axis=0), kind="stable")[:MAX_DIRECTIONS]]


def _apart(points: np.ndarray, groups: list[np.ndarray]) -> list[np.ndarray]:
    """Join groups that overlap, as the pieces of a ring do."""
    share = _log_shares(points, groups, heavy=False)
    share = np.exp(share - np.logaddexp.reduce(share, axis=1)[:, None])
    linked = np.eye(len(groups), dtype=bool)
    for one in range(len(groups)):
        both = np.sum(np.minimum(share[:, [one]], share), axis=0)
        smaller = np.minimum(len(groups[one]), [len(group) for group in groups])
        linked[one] |= both > LARGEST_OVERLAP * smaller
    for middle in range(len(groups)):
        linked |= linked[:, [middle]] & linked[middle]
    first = np.argmax(linked, axis=1)
    return [
        np.concatenate([groups[one] for one in np.flatnonzero(first == leader)])
        for leader in np.unique(first)
    ]


def _leaders(mixture: NormalMixture) -> Int[np.ndarray, " components"]:
    """For each component the one that stands for its group, which has the highest top of it."""
    top = _log_density(mixture, mixture.location)
    # The height of the lowest place on the best path from one component to another.
    height = _heights_between(mixture)
    for middle in range(len(top)):
        height = np.maximum(height, np.minimum(height[:, [middle]], height[middle]))
    leader = np.zeros(len(top), int)
    leaders: list[int] = []
    for one in np.argsort(-top, kind="stable").tolist():
        reached = height[one, leaders]
        if len(leaders) and np.max(reached) > top[one] + np.log(DEEPEST_VALLEY):
            leader[one] = leaders[int(np.argmax(reached))]
        else:
            leaders.append(one)
            leader[one] = one
    return leader


def _heights_between(mixture: NormalMixture) -> Float[np.ndarray, "components components"]:
    """The lowest log density of the mixture on the line from each component to each other."""
    share = np.linspace(0, 1, NUM_BETWEEN)[:, None, None, None]
    centres = mixture.location
    between = (1 - share) * centres[:, None] + share * centres
    log_density = _log_density(mixture, between.reshape(-1, centres.shape[1]))
    return np.min(log_density.reshape(NUM_BETWEEN, len(centres), len(centres)), axis=0)


def _log_density(mixture: NormalMixture, points: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(_log_parts(mixture, points), axis=1)


def _log_parts(mixture: NormalMixture, points: np.ndarray) -> np.ndarray:
    """Log of the weighted density of each component, up to a constant of all of them."""
    square = np.stack([_square(*one, points) for one in _rows(mixture)], axis=1)
    return np.log(mixture.weight) - _log_det(mixture.factor) - 0.5 * square


def _reassigned(points: np.ndarray, groups: list[np.ndarray]) -> list[np.ndarray]:
    """Assign points by the Student densities of the groups, as a partition will do.

    A component of the mixture may lie between two groups and have points of both.
    """
    for _ in range(NUM_REASSIGNED):
        nearest = np.argmax(_log_shares(points, groups, heavy=True), axis=1)
        groups = [np.flatnonzero(nearest == number) for number in range(len(groups))]
        groups = [group for group in groups if len(group) > 1]
    return groups


def _log_shares(points: np.ndarray, groups: list[np.ndarray], *, heavy: bool) -> np.ndarray:
    """Log of what each group claims of each point, by its normal or its Student density."""
    dim = points.shape[1]
    normals = [normal_of(points[group]) for group in groups]
    location = np.stack([np.asarray(normal.location, float) for normal in normals])
    factor = np.stack([np.asarray(normal.factor, float) for normal in normals])
    square = np.stack([_square(*one, points) for one in zip(location, factor, strict=True)], 1)
    if heavy:
        square = (DEGREES_OF_FREEDOM + dim) * np.log1p(square / DEGREES_OF_FREEDOM)
    count = np.asarray([len(group) for group in groups])
    return np.log(count) - _log_det(factor) - 0.5 * square


def _rows(mixture: NormalMixture):
    return zip(mixture.location, mixture.factor, strict=True)


def _square(location: np.ndarray, factor: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Squared distances from a centre, in standard deviations."""
    return np.sum(np.linalg.solve(factor, (points - location).T) ** 2, axis=0)


def _log_det(factor: np.ndarray) -> np.ndarray:
    return np.sum(np.log(np.diagonal(factor, axis1=1, axis2=2)), axis=1)


def _joined(points: np.ndarray, groups: list[np.ndarray], most: int) -> list[np.ndarray]:
    """Join the two groups whose centres are nearest, until there are no more than `most`."""
    scale = np.std(points, axis=0) + 1e-300
    groups = list(groups)
    while len(groups) > most:
        centre = np.stack([np.mean(points[group], axis=0) / scale for group in groups])
        square = np.sum((centre[:, None] - centre) ** 2, axis=2)
        square[np.diag_indices(len(groups))] = np.inf
        first, second = np.unravel_index(np.argmin(square), square.shape)
        joined = np.concatenate([groups[first], groups[second]])
        groups = [g for n, g in enumerate(groups) if n not in (first, second)] + [joined]
    return groups
