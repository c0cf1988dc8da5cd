"""Weighted particles of a target by tempered sequential Monte Carlo, and moves of its draws."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.normal import normal_log_prob
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.fit_normal import DENSE_LIMIT
from numpyro_bridge.atlas.maps import AbstractMap, identity_map
from numpyro_bridge.atlas.standardisation import standardise
from numpyro_bridge.target import ModelTarget, Target

LARGEST_PRIOR_DRAW = 1e3
"""Largest unconstrained number that a prior may draw if tempering is to start from it."""

NUM_LEAPFROGS = 8
"""Leapfrog steps of each Hamiltonian move."""

MAX_TEMPERATURES = 200


class Particles(NamedTuple):
    """Weighted draws, and what they cost."""

    position: Float[Array, "num dim"]
    log_weight: Float[Array, " num"]
    num_temperatures: int
    num_gradient_evaluations: int


class Reference(NamedTuple):
    """Where tempering starts: draws, and the log density that they follow, up to a constant."""

    position: Float[Array, "num dim"]
    log_density: Callable[[Any, Array], Scalar]
    """Log density of the reference, as a function of the target and a position."""
    log_ratio: Callable[[Any, Array], Scalar]
    """Log density of the target minus that of the reference, as a function of the same two."""


def from_prior(rng_key: RNGKey, target: Target, num: int) -> Reference | None:
    """Start from the prior of the model: choose it where the posterior may have many modes.

    Returns:
        The reference, or None where the prior cannot be drawn from or draws numbers beyond a
        thousand.
    """
    if not isinstance(target, ModelTarget):
        return None
    position = target.prior_positions(rng_key, num)
    if position is None or not bool(jnp.all(jnp.abs(position) < LARGEST_PRIOR_DRAW)):
        return None
    return Reference(position, ModelTarget.log_prior, ModelTarget.log_likelihood)


def from_normal(
    rng_key: RNGKey, target: Target, num: int, *, scale: float = 3.0, fit: bool = False
) -> Reference:
    """Start from a normal distribution: centred at zero, or fitted to the target.

    Args:
        rng_key: Randomness of the fit and the draws.
        target: The density that the normal distribution should cover.
        num: Number of draws.
        scale: Standard deviation in unconstrained coordinates; with `fit`, the factor by which the
            fitted distribution is widened.
        fit: Whether to widen the normal distribution that `standardise` finds instead.
    """
    fit_key, draw_key = jax.random.split(rng_key)
    identity = identity_map(target.dim)
    transform = standardise(fit_key, target, nonlinear=False).map if fit else identity
    noise = scale * jax.random.normal(draw_key, (num, target.dim), jnp.result_type(float))
    density = eqx.Partial(_normal_density, transform, jnp.asarray(scale, noise.dtype))

    def log_ratio(target, position):
        return target.log_density(position) - density(target, position)

    return Reference(jax.vmap(transform)(noise), density, log_ratio)


def from_prior_or_fit(rng_key: RNGKey, target: Target, num: int) -> Reference:
    """Start from the prior if it can be drawn from, else from twice as wide as a fitted normal."""
    start = from_prior(rng_key, target, num)
    return from_normal(rng_key, target, num, scale=2.0, fit=True) if start is None else start


def tempered_particles(
    rng_key: RNGKey,
    target: Target,
    reference: Reference,
    *,
    target_ess: float = 0.7,
    num_moves: int = 4,
) -> Particles:
    """Carry draws of a reference to the target by adaptive tempering.

    This is BlackJAX's adaptive tempered sequential Monte Carlo. The next temperature is the one at
    which the effective share of the particles falls to `target_ess`. They are then resampled and
    moved by Hamiltonian Monte Carlo, with their own covariance as the metric and a step size that
    follows the acceptance rate.

    Args:
        rng_key: Randomness.
        target: The density to arrive at.
        reference: Where to start.
        target_ess: Between 0 and 1; the higher, the smaller are the steps in temperature.
        num_moves: Hamiltonian moves at each temperature.

    Raises:
        RuntimeError: if 200 temperatures do not suffice, for example because a density overflows.
    """
    from blackjax.smc import tempered

    num, dim = reference.position.shape
    state = tempered.init(reference.position)
    state = state._replace(tempering_param=jnp.zeros((), reference.position.dtype))
    step_size = jnp.asarray(0.5 * dim**-0.25, reference.position.dtype)
    for count in range(1, MAX_TEMPERATURES + 1):
        key = jax.random.fold_in(rng_key, count)
        state, acceptance = _tempering_step(
            key, state, target, reference, step_size, target_ess, num_moves
        )
        step_size = step_size * jnp.exp(jnp.clip(2 * (acceptance - 0.7), -0.7, 0.4))
        if float(state.tempering_param) >= 1 - 1e-6:
            log_weight = jnp.log(jnp.maximum(state.weights, jnp.finfo(step_size.dtype).tiny))
            evaluations = num * count * (num_moves * NUM_LEAPFROGS + 1)
            return Particles(jnp.asarray(state.particles), log_weight, count, evaluations)
    raise RuntimeError(
        f"tempering stopped at {float(state.tempering_param):.3g} of the way from the reference to "
        f"the target after {MAX_TEMPERATURES} temperatures; start from a distribution that is "
        "closer, such as start=partial(from_normal, fit=True)"
    )


@eqx.filter_jit
def _tempering_step(rng_key, state, target, reference: Reference, step_size, ess, num_moves):
    import blackjax
    from blackjax.smc import adaptive_tempered, resampling

    hmc = blackjax.hmc.build_kernel()

    def move(rng_key, state, log_density, inverse_mass_matrix):
        return hmc(rng_key, state, log_density, step_size, inverse_mass_matrix, NUM_LEAPFROGS)

    kernel = adaptive_tempered.build_kernel(
        lambda x: reference.log_density(target, x),
        lambda x: reference.log_ratio(target, x),
        move,
        blackjax.hmc.init,
        resampling.systematic,
        ess,
    )
    mass = particle_covariance(state.particles, jnp.log(state.weights))
    parameters = {"inverse_mass_matrix": mass[None]}
    state, info = kernel(rng_key, state, num_moves, parameters)
    return state, jnp.mean(info.update_info.acceptance_rate)


@eqx.filter_jit
def refreshed(
    rng_key: RNGKey, target: Target, position: Float[Array, "num dim"], *, num_moves: int = 8
) -> Float[Array, "num dim"]:
    """Move draws by Hamiltonian Monte Carlo, which leaves the target distribution unchanged.

    Args:
        rng_key: Randomness.
        target: The density, in coordinates in which it is roughly standard normal.
        position: Draws that follow the target at least roughly.
        num_moves: Moves of each draw; during the first half of them the step size follows the
            acceptance rate.
    """
    import blackjax

    hmc = blackjax.hmc.build_kernel()
    mass = jnp.ones(target.dim, position.dtype)
    states = jax.vmap(blackjax.hmc.init, in_axes=(0, None))(position, target.log_density)

    def move(carry, index):
        states, step_size = carry
        keys = jax.random.split(jax.random.fold_in(rng_key, index), len(position))
        states, info = jax.vmap(
            lambda key, s: hmc(key, s, target.log_density, step_size, mass, NUM_LEAPFROGS)
        )(keys, states)
        gain = jnp.where(index < num_moves // 2, jnp.mean(info.acceptance_rate) - 0.7, 0.0)
        return (states, step_size * jnp.exp(jnp.clip(2 * gain, -0.7, 0.4))), None

    start = jnp.asarray(0.5 * target.dim**-0.25, position.dtype)
    (states, _), _ = jax.lax.scan(move, (states, start), jnp.arange(num_moves))
    return states.position


def particle_covariance(position, log_weight):
    """Weighted covariance, or variances above `DENSE_LIMIT` dimensions; never singular."""
    weight = jax.nn.softmax(log_weight)
    centred = position - weight @ position
    dim = position.shape[1]
    variance = weight @ centred**2 + 1e-12
    if dim > DENSE_LIMIT:
        return variance
    return (centred.T * weight) @ centred + 1e-6 * jnp.diag(variance)


def _normal_density(transform: AbstractMap, scale, target: Target, position) -> Scalar:
    noise = transform.inverse(position)
    log_prob = normal_log_prob(noise, jnp.zeros_like(noise), jnp.full_like(noise, scale))
    return log_prob - transform.log_det(noise)
