"""How far draws are from a target of which exact draws or modes are known.

Values of a Sinkhorn or kernel distance mean something only beside cost, regularisation, kernel,
bandwidth and number of draws; published ones differ in all of these.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, xlogy


def squared_distances(x, y):
    """Squared Euclidean distances between rows, shape `(len(x), len(y))`."""
    # Not by a product of the two: it cancels where the sets are far from the origin.
    return jnp.sum((x[:, None] - y) ** 2, axis=2)


@jax.jit
def entropic_cost(x, y, epsilon, tolerance=1e-3, max_iterations=10_000):
    r"""Entropic optimal transport between two sets of equally weighted points.

    $$\min_P \sum_{ij} P_{ij} \lVert x_i - y_j \rVert^2 + \varepsilon\,\mathrm{KL}(P \,\Vert\,
      \mathrm{uniform})$$

    By Sinkhorn's iteration on the potentials, in logarithms, with a regularisation that halves
    from the largest cost down to `epsilon`. As `epsilon` falls it tends to the squared
    2-Wasserstein distance, from above.

    Args:
        x: Points, shape `(num, dim)`.
        y: Others, shape `(another_num, dim)`.
        epsilon: Regularisation, in units of the cost: of squared positions.
        tolerance: Mass at the wrong place at which the iteration ends, out of one.
        max_iterations: At which it ends in any case, with NaN: what it has is no distance.
    """
    cost = squared_distances(x, y)

    def to_first(second, epsilon):
        return -epsilon * (logsumexp((second - cost) / epsilon, axis=1) - jnp.log(len(y)))

    def to_second(first, epsilon):
        inside = (first[:, None] - cost) / epsilon
        return -epsilon * (logsumexp(inside, axis=0) - jnp.log(len(x)))

    def improve(carry):
        first, second, _, present, count = carry
        updated = to_first(second, present)
        # The rows of the plan sum to what updating their potentials would change.
        misplaced = jnp.mean(jnp.abs(jnp.expm1((first - updated) / present)))
        reached = jnp.where(present > epsilon, jnp.inf, misplaced)
        following = jnp.maximum(epsilon, present / 2)
        return updated, to_second(updated, following), reached, following, count + 1

    def unfinished(carry):
        return (carry[2] > tolerance) & (carry[4] < max_iterations)

    first, second = jnp.zeros(len(x), cost.dtype), jnp.zeros(len(y), cost.dtype)
    start = (first, second, jnp.inf, jnp.maximum(epsilon, jnp.max(cost)), 0)
    first, second, misplaced, _, _ = jax.lax.while_loop(unfinished, improve, start)
    value = jnp.mean(first) + jnp.mean(second)
    return jnp.where(misplaced <= tolerance, value, jnp.nan)


@jax.jit
def sinkhorn_divergence(x, y, epsilon):
    """Entropic cost less the mean of those of each set with itself: zero for equal sets.

    In units of squared positions. Feydy et al. (2019), arXiv:1810.08278.
    """
    return (
        entropic_cost(x, y, epsilon)
        - 0.5 * entropic_cost(x, x, epsilon)
        - 0.5 * entropic_cost(y, y, epsilon)
    )


@jax.jit
def squared_mmd(x, y, bandwidth):
    r"""Squared maximum mean discrepancy, unbiased, so that it may be negative.

    The kernel is $\exp(-\lVert x - y \rVert^2 / (2 h^2))$. Gretton et al. (2012), JMLR 13.

    Args:
        x: Points, shape `(num, dim)`, at least two.
        y: Others, shape `(another_num, dim)`, at least two.
        bandwidth: The $h$ of the kernel, in units of positions.
    """

    def kernel(a, b):
        return jnp.exp(-squared_distances(a, b) / (2 * bandwidth**2))

    def within(a):
        return (jnp.sum(kernel(a, a)) - len(a)) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * jnp.mean(kernel(x, y))


@jax.jit
def median_distance(x):
    """The usual bandwidth: the median distance between two of the points."""
    rows, columns = jnp.triu_indices(len(x), 1)
    return jnp.sqrt(jnp.median(squared_distances(x, x)[rows, columns]))


@jax.jit
def mode_shares(x, modes):
    """Share of the points that are nearest to each mode, shape `(len(modes),)`."""
    nearest = jnp.argmin(squared_distances(x, modes), axis=1)
    return jnp.bincount(nearest, length=len(modes)) / len(x)


@jax.jit
def entropic_mode_coverage(shares):
    """Entropy of the shares over its maximum: one if all modes have their part, zero for one mode.

    For modes of equal mass. Blessing et al. (2024), arXiv:2406.07423.
    """
    return -jnp.sum(xlogy(shares, shares)) / jnp.log(len(shares))
