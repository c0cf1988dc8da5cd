"""The best normal distribution in hundreds or thousands of dimensions, by Newton's method."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.quick_jit import brief_jit, compile_ahead, quick_jit
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.climbs import ARRIVED, ROUNDING
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.quasi_newton import lowest_from
from numpyro_bridge.atlas.stacked import row, standard_normal
from numpyro_bridge.target import Target

NEWTON_LIMIT = 6_000
"""Largest dimension; a matrix of this dimension takes 144 MB in single precision."""

NUM_STARTS = 2
"""Starts that are climbed from: where they agree, more of them would find the same."""

MAX_QUASI_NEWTON, MAX_NEWTON, MAX_TRIES = 100, 50, 12
"""Steps of a climb at most, and how often a step is tried with more damping."""

MAX_MEAN_STEPS = 30
"""Steps from the mode to the best normal distribution at most."""

HARDLY, LAST_SHARE = 5e-4, 0.26
"""Where a step raises the ELBO by less than the first number of nats for each dimension, the next
ones take a half, a third and a quarter of a step, and these are the last."""

SHORTENED, LEAST_SHARE = 0.4, 0.005
"""A step that lowers the ELBO is shortened by this factor, down to this share of a Newton step."""

NUM_COMPARED = 256
"""Draws by which the ELBOs of two steps are compared, always the same."""

NUM_CURVATURES, NUM_SCORES = 16, 512
"""Draws by which the mean curvature and the mean score are estimated, in pairs that mirror each
other: in many dimensions a mean of exact Hessians has far less noise than a regression of scores on
draws, since what changes between them is mostly their diagonals."""

BATCH = 64
"""Gradients that are evaluated at a time, so that memory is bounded where the data are large."""

Cost = Callable[[Vector], Scalar]


def normal_by_newton(
    rng_key: RNGKey, target: Target, starts: Float[Array, "starts dim"]
) -> DenseMap | None:
    """The normal distribution at the mode, and the one of highest ELBO, from each of two starts.

    Newton's method leads to the mode, with damping as by Levenberg and Marquardt. From there a few
    more Newton steps follow, with the score and the curvature averaged over the normal distribution
    itself, which lead to the highest ELBO (Opper and Archambeau 2009).

    Args:
        rng_key: Randomness of the averages.
        target: The target in its own coordinates.
        starts: Positions to climb from; only the first two are used.

    Returns:
        The maps at the modes, then those of highest ELBO, one of each for every start, or None
        above `NEWTON_LIMIT` dimensions. Starts that lead to one mode share the latter.
    """
    if target.dim > NEWTON_LIMIT:
        return None
    modes = [_mode_from(target, start) for start in starts[:NUM_STARTS]]
    best = [_best_from(rng_key, target, modes[0])]
    for mode in modes[1:]:
        again = _is_same(modes[0], mode)
        best.append(best[0] if again else _best_from(rng_key, target, mode))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *modes, *best)


def compile_newton_ahead(rng_key: RNGKey, target: Target) -> None:
    """Begin to compile what `normal_by_newton` calls."""
    place, _ = standard_normal(target.dim)
    only = row(place, 0)
    compile_ahead(_mode_from, target, only.location)
    compile_ahead(_best_from, rng_key, target, only)


def num_gradients(dim: int) -> int:
    """About how many gradients `normal_by_newton` evaluates: twenty Hessians, and eight means."""
    climbing = MAX_QUASI_NEWTON + 20 * dim
    averaging = 8 * (NUM_CURVATURES * dim + NUM_SCORES)
    return NUM_STARTS * climbing + averaging


@quick_jit
def _mode_from(target: Target, start: Vector) -> DenseMap:
    return _mode(lambda position: -target.log_density(position), start)


@quick_jit
def _best_from(rng_key: RNGKey, target: Target, at_mode: DenseMap) -> DenseMap:
    return _with_highest_elbo(rng_key, lambda position: -target.log_density(position), at_mode)


@brief_jit
def _is_apart(one: DenseMap, other: DenseMap) -> Scalar:
    return jnp.max(jnp.abs(one.inverse(other.location)))


def _is_same(one: DenseMap, other: DenseMap) -> bool:
    """Whether two climbs ended at one mode, to a standard deviation in every direction."""
    return bool(_is_apart(one, other) < 1.0)


# --- to the mode ----------------------------------------------------------------------------------


class _Climb(NamedTuple):
    """A position on the way to the mode."""

    position: Vector
    damping: Scalar
    """What is added to the diagonal of the Hessian, once it is scaled to ones."""
    factor: Float[Array, "dim dim"]
    """The lower-triangular factor of the inverse of the damped Hessian."""
    arrived: Bool[Array, ""]
    count: Int[Array, ""]


def _mode(cost: Cost, start: Vector) -> DenseMap:
    """The mode that a start leads to, and the curvature there."""
    most = {"max_steps": MAX_QUASI_NEWTON, "max_evaluations": 2 * MAX_QUASI_NEWTON}
    end = lowest_from(cost, start, **most).position
    zero = jnp.zeros((), end.dtype)
    first = _Climb(end, zero, jnp.eye(end.size, dtype=end.dtype), zero > 0, jnp.asarray(0))
    last = jax.lax.while_loop(
        lambda climb: ~climb.arrived & (climb.count < MAX_NEWTON),
        lambda climb: _newton(cost, climb),
        first,
    )
    return DenseMap(last.position, last.factor)


class _Try(NamedTuple):
    """A Newton step with some damping."""

    damping: Scalar
    factor: Float[Array, "dim dim"]
    step: Vector
    lower: Bool[Array, ""]
    count: Int[Array, ""]


def _newton(cost: Cost, climb: _Climb) -> _Climb:
    """One Newton step, with as much damping as it takes to lower the cost."""
    position = climb.position
    here, gradient = jax.value_and_grad(cost)(position)
    hessian = hessian_of(cost, position)

    def attempt(before: _Try) -> _Try:
        damping = jnp.where(
            before.count == 0, climb.damping, jnp.maximum(10 * before.damping, 1e-3)
        )
        factor = inverse_factor(hessian, damping)
        step = -factor @ (factor.T @ gradient)
        lower = cost(position + step) < here  # False where it is not finite
        return _Try(damping, factor, step, lower, before.count + 1)

    nothing = _Try(
        climb.damping, climb.factor, 0 * position, ~climb.arrived & False, climb.count * 0
    )
    found = jax.lax.while_loop(
        lambda one: ~_is_enough(one, gradient, here) & (one.count < MAX_TRIES), attempt, nothing
    )
    arrived = _is_short(found, gradient, here) | ~found.lower
    # At the mode the shape should not be damped; where it has to be, it is no mode.
    damping = jnp.where(found.damping < 1e-4, 0.0, 0.1 * found.damping)
    return _Climb(
        jnp.where(found.lower, position + found.step, position),
        damping,
        found.factor,
        arrived,
        climb.count + 1,
    )


def _is_enough(one: _Try, gradient: Vector, here: Scalar) -> Bool[Array, ""]:
    return (one.count > 0) & (one.lower | _is_short(one, gradient, here))


def _is_short(one: _Try, gradient: Vector, here: Scalar) -> Bool[Array, ""]:
    """Whether the step is short beside a standard deviation, or beside rounding of the density."""
    rounding = ROUNDING * jnp.finfo(here.dtype).eps * jnp.abs(here)
    return -gradient @ one.step < ARRIVED + rounding


# --- from the mode to the highest ELBO ------------------------------------------------------------


class _Ascent(NamedTuple):
    """A normal distribution on the way to the highest ELBO."""

    normal: DenseMap
    precision: Float[Array, "dim dim"]
    elbo: Scalar
    share: Scalar
    """How much of a Newton step is taken at most; it falls once the ELBO hardly rises, so that the
    precision becomes a mean over several steps."""
    number: Int[Array, ""]
    at_end: Bool[Array, ""]


def _with_highest_elbo(rng_key: RNGKey, cost: Cost, at_mode: DenseMap) -> DenseMap:
    """Newton steps with averages over the normal distribution, shortened until the ELBO rises.

    A mode may be far from the mass, as that of a hierarchy is, so that the way can be long.
    """
    noise_key, step_key = jax.random.split(rng_key)
    dim, dtype = at_mode.location.size, at_mode.location.dtype
    noise = jax.random.normal(noise_key, (NUM_COMPARED, dim), dtype)

    def elbo_of(normal: DenseMap) -> Scalar:
        heights = jax.lax.map(lambda z: -cost(normal(z)), noise, batch_size=BATCH)
        return jnp.mean(heights) + normal.log_det_of_factor

    def step(so_far: _Ascent) -> _Ascent:
        key = jax.random.fold_in(step_key, so_far.number)
        curvature, gradient = _averages(key, cost, so_far.normal)

        def attempt(before):
            share = before[0] * SHORTENED
            precision = (1 - share) * so_far.precision + share * curvature
            factor = inverse_factor(precision, jnp.zeros((), dtype))
            location = so_far.normal.location - share * (factor @ (factor.T @ gradient))
            normal = DenseMap(location, factor)
            return share, normal, precision, elbo_of(normal)

        first = (so_far.share / SHORTENED, so_far.normal, so_far.precision, so_far.elbo - jnp.inf)
        share, normal, precision, elbo = jax.lax.while_loop(
            lambda tried: ~(tried[3] > so_far.elbo) & (tried[0] > LEAST_SHARE), attempt, first
        )
        higher = elbo > so_far.elbo
        hardly = ~(elbo > so_far.elbo + HARDLY * dim)
        following = jnp.where(hardly, so_far.share / (1 + so_far.share), 1.0)
        better = _Ascent(normal, precision, elbo, following, so_far.number, so_far.at_end)
        kept = jax.tree.map(
            lambda new, old: jnp.where(higher, new, old), better, so_far._replace(share=following)
        )
        number = so_far.number + 1
        return kept._replace(number=number, at_end=hardly & (following < LAST_SHARE))

    whitening = jax.scipy.linalg.solve_triangular(
        at_mode.factor, jnp.eye(dim, dtype=dtype), lower=True
    )
    one = jnp.ones((), dtype)
    start = _Ascent(
        at_mode, whitening.T @ whitening, elbo_of(at_mode), one, jnp.asarray(0), one < 0
    )
    last = jax.lax.while_loop(
        lambda ascent: ~ascent.at_end & (ascent.number < MAX_MEAN_STEPS), step, start
    )
    return last.normal


def _averages(rng_key: RNGKey, cost: Cost, normal: DenseMap):
    """The mean Hessian and the mean gradient of the cost over a normal distribution."""
    curvature_key, score_key = jax.random.split(rng_key)

    def draws(key, num):
        noise = jax.random.normal(key, (num // 2, normal.location.size), normal.location.dtype)
        return jax.vmap(normal)(jnp.concatenate([noise, -noise]))

    def add(total, position):
        return total + hessian_of(cost, position), None

    total, _ = jax.lax.scan(
        add, jnp.zeros_like(normal.factor), draws(curvature_key, NUM_CURVATURES)
    )
    gradients = jax.lax.map(jax.grad(cost), draws(score_key, NUM_SCORES), batch_size=BATCH)
    return total / NUM_CURVATURES, jnp.mean(gradients, axis=0)


# --- matrices -------------------------------------------------------------------------------------


def hessian_of(cost: Cost, position: Vector) -> Float[Array, "dim dim"]:
    """The Hessian, a few rows at a time; in reverse mode, which every density has."""
    _, pull = jax.vjp(jax.grad(cost), position)
    eye = jnp.eye(position.size, dtype=position.dtype)
    rows = jax.lax.map(lambda row: pull(row)[0], eye, batch_size=BATCH)
    return 0.5 * (rows + rows.T)


def inverse_factor(matrix: Float[Array, "dim dim"], damping: Scalar) -> Float[Array, "dim dim"]:
    """The lower-triangular factor of the inverse of a matrix; NaN unless that is positive definite.

    Args:
        matrix: Symmetric.
        damping: Is added to the diagonal after it was scaled to ones.
    """
    size = jnp.abs(jnp.diagonal(matrix))
    scale = jnp.where(size > 0, jax.lax.rsqrt(jnp.where(size > 0, size, 1.0)), 1.0)
    eye = jnp.eye(len(scale), dtype=matrix.dtype)
    scaled = scale[:, None] * matrix * scale + damping * eye
    # Decomposed from the last row to the first, so that the inverse of the factor is lower.
    upper = jnp.flip(jnp.linalg.cholesky(jnp.flip(scaled)))
    return scale[:, None] * jax.scipy.linalg.solve_triangular(upper, eye, lower=False).T
