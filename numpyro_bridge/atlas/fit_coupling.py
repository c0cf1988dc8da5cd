"""Fit a coupling map to the shape that a target still has once it is seen through an affine map."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from numpyro_bridge._core.quick_jit import quick_jit
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.coupling import Coupling, CouplingMap, most_leading
from numpyro_bridge.atlas.maps import DenseMap, factor_and_rotation
from numpyro_bridge.atlas.radial import Radial
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, weights_of_draws
from numpyro_bridge.target import Target

NUM_DRAWS = 4_096
"""Number of scores that the steering directions are found from."""

NUM_ITERATIONS, BATCH = 1_500, 256
"""Number of steps of the fit, and of draws in each step."""

STEERING_SHARES = (0.75, 0.2)
"""Directions may steer if their strength is more than this share of that of the strongest.

With too few steering directions the fit leaves a gap on coupled bananas, and with too many on a
funnel, so that both numbers are tried, in one compiled program, and the higher ELBO decides;
`python -m benchmarks.bent_maps` shows how many there are on each.
"""

SMALL_GAP = 0.02
"""A fit with a smaller gap to the evidence, in nats, is good enough, and no other is tried."""

LEAST_HEAVY = -5.0
"""Where the training of the heaviness begins, before a softplus: hardly any stretch."""

FEW_DIMENSIONS = 3
"""Dimension up to which the fit is run twice, with the directions in either order.

To lowest order, two shapes have the same third derivatives: the width of $b$ may depend on $a$, or
the location of $a$ may depend on $b^2$. In few dimensions the wrong direction of the two may seem
the stronger one, so both orders are tried and the higher ELBO decides.
"""


def fit_coupling(rng_key: RNGKey, target: Target, affine: DenseMap) -> CouplingMap:
    """Bend an affine map by a coupling, trained to the highest ELBO.

    The first guess of the steering coordinates are the directions along which the curvature of the
    log density changes most. Then the whole map is trained on the ELBO, by gradients that lose
    their noise as the fit becomes perfect (Roeder et al. 2017, arXiv:1703.09194).

    Args:
        rng_key: Randomness of all draws.
        target: The target in its own coordinates.
        affine: A map whose normal distribution is near the target.

    Returns:
        The bent map, from standardised coordinates to those of the target.
    """
    directions_key, start_key, fit_key, choice_key = jax.random.split(rng_key, 4)
    standardised = StandardisedTarget(target, affine)
    strength, directions = steering(directions_key, standardised)
    numbers = numbers_of_leading(np.asarray(strength))
    starts = [Coupling(start_key, target.dim, number) for number in numbers]
    orders = [directions, directions[:, ::-1]] if 1 < target.dim <= FEW_DIMENSIONS else [directions]
    maps, elbos = [], []
    for order, start in itertools.product(orders, starts):
        maps.append(_composed(affine, _fitted(fit_key, standardised, order, start)))
        log_weight = np.asarray(weights_of_draws(choice_key, maps[-1], target), np.float64)
        elbos.append(np.mean(log_weight))
        # Half the variance of nearly equal weights is what a better fit could still gain.
        if 0.5 * np.var(log_weight) < SMALL_GAP:
            break
    return maps[int(np.argmax(np.nan_to_num(elbos, nan=-np.inf)))]


def num_gradient_evaluations(dim: int) -> int:
    """Number of scores that `fit_coupling` evaluates at most."""
    orders = 2 if 1 < dim <= FEW_DIMENSIONS else 1
    return NUM_DRAWS + NUM_ITERATIONS * BATCH * orders * len(STEERING_SHARES)


@quick_jit
def steering(
    rng_key: RNGKey, target: StandardisedTarget
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """The directions along which the curvature of a log density changes, strongest first.

    Averaged over standard normal noise, the third derivatives $T$ of the log density follow from
    scores alone (Stein's identity). For a unit vector $v$, the matrix $T v$ says how the curvature
    changes along $v$, and its squared norm is the strength of this direction. The strengths of all
    directions, summed and divided by 12, are to lowest order the gap between the ELBO and the log
    evidence, in nats.

    Returns:
        The strengths, and the orthonormal directions as columns.
    """
    dim, dtype = target.dim, jnp.result_type(float)
    noise = jax.random.normal(rng_key, (NUM_DRAWS // 2, dim), dtype)
    noise = jnp.concatenate([noise, -noise])
    score = jax.vmap(lambda x: target.at(x).score)(noise)
    # Scores are cut to ten times a standard normal's length, so that no far draw dominates.
    longest = 10 * math.sqrt(dim)
    length = jnp.linalg.norm(score, axis=1, keepdims=True)
    rest = score * (longest / jnp.maximum(length, longest)) + noise

    def second_moments(column):
        return (noise * column[:, None]).T @ noise / NUM_DRAWS - jnp.mean(column) * jnp.eye(dim)

    third = jax.lax.map(second_moments, rest.T)
    third = (third + third.transpose(1, 2, 0) + third.transpose(2, 0, 1)) / 3
    values, vectors = jnp.linalg.eigh(jnp.einsum("abc,dbc->ad", third, third))
    return values[::-1], vectors[:, ::-1]


def numbers_of_leading(strength: np.ndarray) -> list[int]:
    """How many directions may steer: those not much weaker than the strongest; no number twice."""
    most = most_leading(strength.size)
    numbers = {
        max(1, int(np.sum(strength[:most] > share * strength[0]))) for share in STEERING_SHARES
    }
    return sorted(numbers)


class _Bent(eqx.Module):
    """What is trained: a stretch, a coupling, then a square factor and a shift."""

    location: Vector
    factor: Float[Array, "dim dim"]
    coupling: Coupling
    heaviness: Scalar
    """Before a softplus, which keeps it positive."""

    @property
    def radial(self) -> Radial:
        return Radial(jax.nn.softplus(self.heaviness))

    def __call__(self, noise: Vector) -> Vector:
        return self.location + self.factor @ self.coupling(self.radial(noise))


@quick_jit
def _fitted(rng_key: RNGKey, target: StandardisedTarget, directions, start: Coupling) -> _Bent:
    dim, dtype = target.dim, directions.dtype
    optimizer = optax.chain(
        optax.clip_by_global_norm(10 * math.sqrt(dim)),
        optax.adam(optax.cosine_decay_schedule(0.02, NUM_ITERATIONS)),
    )

    def step(carry, key):
        bent, state = carry
        noise = jax.random.normal(key, (BATCH // 2, dim), dtype)
        gradient = jax.grad(_loss)(bent, target, jnp.concatenate([noise, -noise]))
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(gradient)]))
        updates, following = optimizer.update(gradient, state, bent)
        following = (optax.apply_updates(bent, updates), following)
        # An update that is not finite is skipped, as in `fit`.
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), following, carry), None

    bent: Any = _Bent(jnp.zeros(dim, dtype), directions, start, jnp.asarray(LEAST_HEAVY, dtype))
    keys = jax.random.split(rng_key, NUM_ITERATIONS)
    (bent, _), _ = jax.lax.scan(step, (bent, optimizer.init(bent)), keys)
    return bent


def _loss(bent: _Bent, target: Target, noise: Float[Array, "draws dim"]) -> Scalar:
    """Minus the ELBO, up to a constant, with gradients through the draws alone."""
    held = jax.lax.stop_gradient(bent)
    inverse_factor = jnp.linalg.inv(held.factor)

    def log_weight(noise):
        position = bent(noise)
        stretched = held.coupling.inverse(inverse_factor @ (position - held.location))
        noise = held.radial.inverse(stretched)
        log_det = held.coupling.log_det(stretched) + held.radial.log_det(noise)
        return target.log_density(position) + 0.5 * noise @ noise + log_det

    return -jnp.mean(jax.vmap(log_weight)(noise))


@quick_jit
def _composed(affine: DenseMap, bent: _Bent) -> CouplingMap:
    """The two maps as one: a rotation makes the factor lower-triangular again."""
    factor, rotation = factor_and_rotation(affine.factor @ bent.factor)
    moved = DenseMap(affine(bent.location), factor)
    return CouplingMap(moved, rotation, bent.coupling, bent.radial)
