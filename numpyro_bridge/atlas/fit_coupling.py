"""Fit a coupling map to what an affine map has left of a target's shape."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.coupling import Coupling, CouplingMap
from numpyro_bridge.atlas.maps import DenseMap, factor_and_rotation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, elbo_of
from numpyro_bridge.target import Target

NUM_DRAWS = 4_096
"""Scores from which the steering directions are found."""

NUM_ITERATIONS, BATCH = 3_000, 64
"""Steps of the fit, and draws in each."""

MOST_LEADING = 8
"""Steering directions at most, and at most a quarter of all: the more steer, the fewer follow."""

STEERING_SHARE = 0.35
"""Share of the strongest direction from which on another one steers as well.

One too few leaves a gap on a random walk with two unknown scales, one too many on a funnel:
`python -m benchmarks.bent_maps` shows how many are found there.
"""

FEW_DIMENSIONS = 3
"""Dimensions up to which the fit begins from both ends of the directions.

To lowest order the width of one coordinate that follows another cannot be told from the place of
the other that follows the square of the one; where few coordinates follow, the wrong one may seem
the stronger.
"""


def fit_coupling(rng_key: RNGKey, target: Target, affine: DenseMap) -> CouplingMap:
    """The coupling map of highest ELBO that is reached from an affine one.

    The steering coordinates begin as those along which the curvature of the log density changes
    most; then all of the map is trained on the ELBO, by gradients that have no noise where the
    fit is perfect (Roeder et al. 2017, arXiv:1703.09194).

    Args:
        rng_key: Randomness of all draws.
        target: In its own coordinates.
        affine: A map whose normal law is near the target.
    """
    directions_key, start_key, fit_key, choice_key = jax.random.split(rng_key, 4)
    standardised = StandardisedTarget(target, affine)
    strength, directions = steering(directions_key, standardised)
    start = Coupling(start_key, target.dim, num_leading(np.asarray(strength)))
    orders = [directions, directions[:, ::-1]] if 1 < target.dim <= FEW_DIMENSIONS else [directions]
    maps = [_composed(affine, _fitted(fit_key, standardised, order, start)) for order in orders]
    noise = jax.random.normal(choice_key, (NUM_DRAWS, target.dim), affine.location.dtype)
    return max(maps, key=lambda bent: float(elbo_of(bent, target, noise)))


def num_gradient_evaluations(dim: int) -> int:
    """Scores that `fit_coupling` evaluates."""
    return NUM_DRAWS + NUM_ITERATIONS * BATCH * (2 if 1 < dim <= FEW_DIMENSIONS else 1)


@eqx.filter_jit
def steering(
    rng_key: RNGKey, target: StandardisedTarget
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """How much the curvature changes along which directions, strongest first.

    The third derivatives $T$ of the log density, averaged over standard noise, follow from its
    scores alone (Stein's identity). The squared norm of $T v$ is that of the change of curvature
    along a unit vector $v$; summed over all directions and divided by 12 it is, to lowest order,
    the ELBO's gap in nats.

    Returns:
        Squared norms and, as columns, orthonormal directions.
    """
    dim, dtype = target.dim, jnp.result_type(float)
    noise = jax.random.normal(rng_key, (NUM_DRAWS // 2, dim), dtype)
    noise = jnp.concatenate([noise, -noise])
    score = jax.vmap(lambda x: target.at(x).score)(noise)
    # No far draw may rule: scores are at most ten times as long as a standard normal's.
    longest = 10 * math.sqrt(dim)
    length = jnp.linalg.norm(score, axis=1, keepdims=True)
    rest = score * (longest / jnp.maximum(length, longest)) + noise

    def second_moments(column):
        return (noise * column[:, None]).T @ noise / NUM_DRAWS - jnp.mean(column) * jnp.eye(dim)

    third = jax.lax.map(second_moments, rest.T)
    third = (third + third.transpose(1, 2, 0) + third.transpose(2, 0, 1)) / 3
    values, vectors = jnp.linalg.eigh(jnp.einsum("abc,dbc->ad", third, third))
    return values[::-1], vectors[:, ::-1]


def num_leading(strength: np.ndarray) -> int:
    """How many directions steer: those not much weaker than the strongest."""
    most = min(MOST_LEADING, strength.size // 4)
    return max(1, int(np.sum(strength[:most] > STEERING_SHARE * strength[0])))


class _Bent(eqx.Module):
    """A coupling followed by a square factor: what is trained."""

    location: Vector
    factor: Float[Array, "dim dim"]
    coupling: Coupling

    def __call__(self, noise: Vector) -> Vector:
        return self.location + self.factor @ self.coupling(noise)


@eqx.filter_jit
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
        # An update that is not finite is left out, as in `fit`.
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), following, carry), None

    bent: Any = _Bent(jnp.zeros(dim, dtype), directions, start)
    keys = jax.random.split(rng_key, NUM_ITERATIONS)
    (bent, _), _ = jax.lax.scan(step, (bent, optimizer.init(bent)), keys)
    return bent


def _loss(bent: _Bent, target: Target, noise: Float[Array, "draws dim"]) -> Scalar:
    """Minus the ELBO but for a constant; differentiated along the paths of the draws alone."""
    held = jax.lax.stop_gradient(bent)
    inverse_factor = jnp.linalg.inv(held.factor)

    def log_weight(noise):
        position = bent(noise)
        noise = held.coupling.inverse(inverse_factor @ (position - held.location))
        return target.log_density(position) + 0.5 * noise @ noise + held.coupling.log_det(noise)

    return -jnp.mean(jax.vmap(log_weight)(noise))


@eqx.filter_jit
def _composed(affine: DenseMap, bent: _Bent) -> CouplingMap:
    """The two maps as one, whose factor is lower-triangular again, behind a rotation."""
    factor, rotation = factor_and_rotation(affine.factor @ bent.factor)
    return CouplingMap(DenseMap(affine(bent.location), factor), rotation, bent.coupling)
