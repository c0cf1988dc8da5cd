"""Normal approximations of a target, from several starts, among which standardisation chooses."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.finite import where
from numpyro_bridge._core.quick_jit import quick_jit
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.atlas.maps import (
    AbstractAffineMap,
    DenseMap,
    LowRankMap,
    diagonal_map,
    identity_map,
    lower_factor,
)
from numpyro_bridge.atlas.partition import AbstractPartition, Piece
from numpyro_bridge.atlas.quasi_newton import lowest_from
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import Target

DENSE_LIMIT = 300
"""Up to this dimension factors are dense; above it they are diagonal or of low rank."""

LAPLACE_LIMIT = 2_000
"""Largest dimension for `laplace`, which decomposes a matrix once where a climb does so often."""

MAX_RANK = 20
"""Rank of a low-rank factor: the number of directions that Pathfinder's ten last updates span."""

NEWTON_STEPS = 8
"""Newton steps after a quasi-Newton path, which in many dimensions is slow near the mode."""

NUM_STEPS = 200
"""Number of steps of the climb to the best normal distribution."""

Starts = Float[Array, "starts dim"]


def no_map(rng_key: RNGKey, target: Target, starts: Starts) -> AbstractAffineMap:
    """The identity map, with which every other candidate is compared."""
    return _batch_of_one(identity_map(target.dim))


def prior_moments(rng_key: RNGKey, target: Target, starts: Starts) -> AbstractAffineMap | None:
    """A map from the mean and standard deviation of prior draws; None if there is no such prior."""
    draws = target.prior_positions(rng_key, 512)
    if draws is None:
        return None
    scale = jnp.maximum(jnp.std(draws, axis=0), 1e-6)
    return _batch_of_one(diagonal_map(jnp.mean(draws, axis=0), scale))


def pathfinder(rng_key: RNGKey, target: Target, starts: Starts) -> AbstractAffineMap | None:
    """The normal distribution of highest ELBO along a quasi-Newton path from each start.

    Reference: Zhang et al. (2022), arXiv:2108.03782, as implemented in BlackJAX.

    Returns:
        One map for each start, or None if BlackJAX is not installed.
    """
    try:
        from blackjax.vi.pathfinder import approximate
    except ImportError:
        return None
    return _pathfinder(rng_key, target, starts, approximate)


@quick_jit
def _pathfinder(rng_key: RNGKey, target: Target, starts: Starts, approximate) -> LowRankMap:
    def one(key, start):
        # Few line-search steps: a start that cannot move must not hold up the others.
        state, _ = approximate(key, target.log_density, start, num_samples=64, maxls=20)
        return low_rank_of(state.position, state.alpha, state.beta, state.gamma)

    return jax.vmap(one)(jax.random.split(rng_key, len(starts)), starts)


def low_rank_of(
    location: Vector,
    diagonal: Vector,
    beta: Float[Array, "dim rank"],
    gamma: Float[Array, "rank rank"],
) -> LowRankMap:
    """The map whose normal distribution has covariance `diag(diagonal) + beta @ gamma @ beta.T`."""
    scale = jnp.sqrt(diagonal)
    basis, triangle = jnp.linalg.qr(beta / scale[:, None])
    values, vectors = jnp.linalg.eigh(triangle @ gamma @ triangle.T)
    return LowRankMap(location, scale, basis @ vectors, jnp.sqrt(jnp.maximum(1 + values, 1e-8)))


def laplace(rng_key: RNGKey, target: Target, starts: Starts) -> AbstractAffineMap | None:
    """The Laplace approximation at the mode that each start leads to.

    Returns:
        One map for each start, or None above `LAPLACE_LIMIT` dimensions.
    """
    return _laplace(target, starts) if target.dim <= LAPLACE_LIMIT else None


@quick_jit
def _laplace(target: Target, starts: Starts) -> DenseMap:
    def cost(position):
        return -target.log_density(position)

    def one(start):
        end = lowest_from(cost, start, max_steps=100, max_evaluations=200).position
        mode = _newton(cost, end)
        values, vectors = jnp.linalg.eigh(_hessian(cost)(mode))
        # Where the density does not curve down it shows no scale, and the scale is set to one.
        values = jnp.where(values > 1e-8, values, 1.0)
        return DenseMap(mode, lower_factor(vectors / jnp.sqrt(values)))

    return jax.vmap(one)(starts)


def _hessian(cost):
    # `jax.hessian` differentiates forward, which functions with a `custom_vjp` (`odeint`) refuse.
    return jax.jacrev(jax.grad(cost))


def _newton(cost, position: Vector) -> Vector:
    """Take a few Newton steps, each of them only if it lowers the cost."""

    def step(position, _):
        proposal = position - jnp.linalg.solve(_hessian(cost)(position), jax.grad(cost)(position))
        lower = cost(proposal) < cost(position)  # False where the proposal is not finite
        return jnp.where(lower, proposal, position), None

    return jax.lax.scan(step, position, length=NEWTON_STEPS)[0]


def gaussian_vi(rng_key: RNGKey, target: Target, starts: Starts) -> AbstractAffineMap:
    """The normal distribution of highest ELBO, by natural-gradient steps from each start.

    Its factor is dense up to `DENSE_LIMIT` dimensions and diagonal beyond. There is no step size to
    tune.
    """
    maps = jax.vmap(diagonal_map)(starts, jnp.ones_like(starts))
    if target.dim <= DENSE_LIMIT:
        eye = jnp.eye(target.dim, dtype=starts.dtype)
        maps = jax.vmap(lambda start: DenseMap(start, eye))(starts)
    num_draws = draws_per_step(target.dim)
    return climb(rng_key, target, maps, num_iterations=NUM_STEPS, num_draws=num_draws)


def draws_per_step(dim: int) -> int:
    """How many draws a step of the climb needs for its regression of scores on draws.

    For a dense factor the regression is on all coordinates together, so that the number grows with
    the dimension; for a diagonal factor it is on each coordinate by itself.
    """
    return max(64, 4 * dim) if dim <= DENSE_LIMIT else 256


@quick_jit
def climb(
    rng_key: RNGKey, target: Target, maps: AbstractAffineMap, num_iterations: int, num_draws: int
) -> AbstractAffineMap:
    """Improve a batch of normal distributions by natural-gradient steps on the ELBO.

    For the best normal distribution the mean score is zero, and minus the mean second derivative of
    the log density is the precision (Opper and Archambeau 2009). Each step draws from the present
    distribution, estimates the curvature by regressing scores on draws, and moves mean and
    precision towards these conditions, in the coordinates in which the present distribution is
    standard. A step that lowers the ELBO is undone and the next one is shorter. In the second half
    the steps shrink, which averages out their noise.
    """
    keys = jax.random.split(rng_key, maps.location.shape[0])
    return jax.vmap(_climb_one, in_axes=(0, 0, None, None, None))(
        keys, maps, target, num_iterations, num_draws
    )


PIECE_STEPS = 100
"""Number of steps of `climb_on_pieces`, which starts near the best normal distribution."""


@quick_jit
def climb_on_pieces(
    rng_key: RNGKey,
    target: Target,
    partition: AbstractPartition,
    charts: Int[Array, " maps"],
    maps: DenseMap,
    num: Int[Array, ""],
) -> DenseMap:
    """`climb` with each map on the piece of the target that one chart is responsible for.

    One after the other, and only the first `num` of them, so that one compiled program serves any
    number of charts.
    """
    num_draws = draws_per_step(target.dim)

    def climb_next(index, maps):
        piece = Piece(target, partition, charts[index])
        key = jax.random.fold_in(rng_key, index)
        start = jax.tree.map(lambda leaf: leaf[index], maps)
        climbed = _climb_one(key, start, piece, PIECE_STEPS, num_draws)
        return jax.tree.map(lambda leaf, row: leaf.at[index].set(row), maps, climbed)

    return jax.lax.fori_loop(0, num, climb_next, maps)


def _climb_one(rng_key: RNGKey, transform, target: Target, num_iterations: int, num_draws: int):
    step = _dense_step if isinstance(transform, DenseMap) else _diagonal_step
    dtype = transform.location.dtype

    def body(carry, iteration_and_key):
        transform, best, best_elbo, damping = carry
        iteration, key = iteration_and_key
        noise = jax.random.normal(key, (num_draws // 2, target.dim), dtype)
        noise = jnp.concatenate([noise, -noise])
        points = jax.vmap(StandardisedTarget(target, transform).at)(noise)
        elbo, error = _mean_and_error(points.log_density)
        worse = ~(elbo > best_elbo - 4 * error - 0.1)
        rate = 0.5 / (1 + jnp.maximum(0, iteration - num_iterations // 2) / 8)
        climbed = step(transform, noise, _shortened(points.score), damping * rate)
        following = where(worse, best, climbed)
        best = where(worse, best, transform)
        best_elbo = jnp.where(worse, best_elbo, elbo)
        damping = jnp.where(worse, 0.5 * damping, jnp.minimum(1.0, 1.2 * damping))
        return (following, best, best_elbo, damping), None

    keys = jax.random.split(rng_key, num_iterations)
    start = (transform, transform, jnp.asarray(-jnp.inf, dtype), jnp.asarray(1.0, dtype))
    (_, best, _, _), _ = jax.lax.scan(body, start, (jnp.arange(num_iterations), keys))
    return best


def _mean_and_error(log_density):
    return jnp.mean(log_density), jnp.std(log_density) / math.sqrt(log_density.size)


def _dense_step(transform: DenseMap, noise, score, rate) -> DenseMap:
    dim = noise.shape[1]
    gram = noise.T @ noise + 1e-3 * jnp.eye(dim, dtype=noise.dtype)
    curvature = -jnp.linalg.solve(gram, noise.T @ score)
    values, vectors = jnp.linalg.eigh(0.5 * (curvature + curvature.T))
    values = 1 - rate + rate * jnp.clip(values, 0.1, 20.0)
    move = ((jnp.mean(score, axis=0) @ vectors) / values) @ vectors.T
    location = transform.location + transform.multiply(_bounded(rate * move))
    return DenseMap(location, lower_factor(transform.factor @ (vectors / jnp.sqrt(values))))


def _diagonal_step(transform: LowRankMap, noise, score, rate) -> LowRankMap:
    curvature = -jnp.sum(noise * score, axis=0) / jnp.sum(noise**2, axis=0)
    values = 1 - rate + rate * jnp.clip(curvature, 0.1, 20.0)
    move = _bounded(rate * jnp.mean(score, axis=0) / values)
    return eqx.tree_at(
        lambda m: (m.location, m.scale),
        transform,
        (transform.location + transform.multiply(move), transform.scale / jnp.sqrt(values)),
    )


def _shortened(score: Float[Array, "draws dim"]) -> Float[Array, "draws dim"]:
    """Shorten long scores, so that no single far draw dominates a step.

    The limit is ten times the length that the scores of a standard normal typically have.
    """
    longest = 10 * math.sqrt(score.shape[1])
    length = jnp.linalg.norm(score, axis=1, keepdims=True)
    return score * (longest / jnp.maximum(length, longest))


def _bounded(move: Float[Array, " dim"]) -> Float[Array, " dim"]:
    longest = 2 * math.sqrt(move.size)
    return move * (longest / jnp.maximum(jnp.linalg.norm(move), longest))


def _batch_of_one(transform: AbstractAffineMap) -> AbstractAffineMap:
    return jax.tree.map(lambda leaf: leaf[None], transform)
