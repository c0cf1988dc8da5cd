"""Weighted particles of a target by tempered sequential Monte Carlo, and moves of its draws."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.keys import fold_in
from numpyro_bridge._core.normal import normal_log_prob
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead, quick_jit
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.fit_normal import DENSE_LIMIT
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap, identity_map
from numpyro_bridge.atlas.one_by_one import in_turn
from numpyro_bridge.atlas.standardisation import standardise
from numpyro_bridge.atlas.starts import NUM_PRIOR_DRAWS
from numpyro_bridge.target import ModelTarget, Target

LARGEST_PRIOR_DRAW = 1e3
"""Largest unconstrained number that a prior may draw if tempering is to start from it."""

NUM_LEAPFROGS = 5
"""Leapfrog steps of each Hamiltonian move."""

MAX_TEMPERATURES = 200

TARGET_ESS = 0.7
"""Effective share of the particles that a step in temperature leaves."""

NUM_GROUPS = 2
"""Groups of particles that are tempered independently."""


class Particles(NamedTuple):
    """Weighted draws, and what they cost."""

    position: Float[Array, "num dim"]
    log_weight: Float[Array, " num"]
    num_temperatures: int
    num_gradient_evaluations: int
    log_evidence: float
    """Estimate of the log evidence, in nats; its error is `log_evidence_error`."""
    log_evidence_error: float


class Reference(NamedTuple):
    """Where tempering starts: draws, and the log density that they follow, up to a constant."""

    position: Float[Array, "num dim"]
    log_density: Callable[[Any, Array], Scalar]
    """Log density of the reference, as a function of the target and a position."""
    log_ratio: Callable[[Any, Array], Scalar]
    """Log density of the target minus that of the reference, as a function of the same two."""
    num_gradient_evaluations: int = 0
    """Gradients that exploration evaluated; the fit of a normal distribution is not counted."""


def from_prior(rng_key: RNGKey, target: Target, num: int) -> Reference | None:
    """Start from the prior of the model: choose it where the posterior may have many modes.

    Returns:
        The reference, or None where the prior cannot be drawn from or draws numbers beyond a
        thousand.
    """
    if not isinstance(target, ModelTarget):
        return None
    position = target.prior_positions(rng_key, max(num, NUM_PRIOR_DRAWS))
    if position is None:
        return None
    few = np.asarray(position)[:num]
    if not np.all(np.abs(few) < LARGEST_PRIOR_DRAW):
        return None
    return Reference(on_device(few), ModelTarget.log_prior, ModelTarget.log_likelihood)


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
    density = eqx.Partial(_normal_density, transform, on_device(scale, noise.dtype))

    return Reference(jax.vmap(transform)(noise), density, eqx.Partial(_log_ratio, density))


def from_prior_or_fit(rng_key: RNGKey, target: Target, num: int) -> Reference:
    """Start from the prior if it can be drawn from, else from twice as wide as a fitted normal."""
    start = from_prior(rng_key, target, num)
    return from_normal(rng_key, target, num, scale=2.0, fit=True) if start is None else start


def tempered_particles(
    rng_key: RNGKey,
    target: Target,
    reference: Reference,
    *,
    target_ess: float = TARGET_ESS,
    num_moves: int = 4,
) -> Particles:
    """Carry draws of a reference to the target by adaptive tempering.

    This is BlackJAX's adaptive tempered sequential Monte Carlo, run by two halves of the particles
    independently, so that their evidences can be compared. The next temperature is the one at
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
    num, dim = reference.position.shape
    dtype = reference.position.dtype
    spent = reference.num_gradient_evaluations
    reference = reference._replace(num_gradient_evaluations=0)  # compiled code need not know
    state = _in_groups(reference.position)
    step_size = np.full(NUM_GROUPS, 0.5 * dim**-0.25, dtype)
    log_evidence = np.zeros(NUM_GROUPS)
    for count in range(1, MAX_TEMPERATURES + 1):
        state, acceptance, increment = _tempering_step(
            fold_in(rng_key, count),
            state,
            target,
            reference,
            on_device(step_size),
            target_ess,
            num_moves,
        )
        log_evidence += np.asarray(increment, float)
        if not np.all(np.isfinite(log_evidence)):
            raise RuntimeError(
                "the log density of particles between the reference and the target overflows; a "
                "reference of about the scale of the posterior is needed"
            )
        step_size *= np.exp(np.clip(np.asarray(acceptance) - 0.8, -0.5, 0.2))
        if np.all(np.asarray(state.tempering_param) >= 1 - 1e-6):
            evaluations = spent + num * count * (num_moves * NUM_LEAPFROGS + 1)
            return _joined(state, log_evidence, count, evaluations)
    reached = float(np.min(np.asarray(state.tempering_param)))
    raise RuntimeError(
        f"tempering stopped at {reached:.3g} of the way from the reference to the target after "
        f"{MAX_TEMPERATURES} temperatures; start from a distribution that is closer, such as "
        "start=partial(from_normal, fit=True)"
    )


def compile_tempering_ahead(
    rng_key: RNGKey, target: Target, reference: Reference, *, num_moves: int
) -> None:
    """Begin to compile what `tempered_particles` calls for a reference of this kind."""
    position = reference.position
    reference = reference._replace(num_gradient_evaluations=0)
    steps = on_device(np.zeros(NUM_GROUPS), position.dtype)
    state = _in_groups(position)
    compile_ahead(_tempering_step, rng_key, state, target, reference, steps, TARGET_ESS, num_moves)


def _in_groups(position: Float[Array, "num dim"]):
    """Where the tempering of each group of particles begins."""
    from blackjax.smc.tempered import TemperedSMCState

    num, dim = position.shape
    half = num // NUM_GROUPS
    groups = np.asarray(position)[: half * NUM_GROUPS].reshape(NUM_GROUPS, half, dim)
    weights = np.full((NUM_GROUPS, half), 1 / half, groups.dtype)
    start = np.zeros(NUM_GROUPS, groups.dtype)
    return TemperedSMCState(*map(on_device, (groups, weights, start)))


def _joined(state, log_evidence: np.ndarray, count: int, evaluations: int) -> Particles:
    """The particles of all groups as one weighted sample: a group's weight is its evidence."""
    share = log_evidence - np.max(log_evidence)
    weights = np.asarray(state.weights)
    log_weight = np.log(np.maximum(weights, np.finfo(weights.dtype).tiny)) + share[:, None]
    estimate = float(np.logaddexp.reduce(log_evidence) - np.log(NUM_GROUPS))
    # Half the distance of two independent estimates is the standard error of their mean.
    error = float(np.std(log_evidence, ddof=1) / np.sqrt(NUM_GROUPS))
    position = np.asarray(state.particles).reshape(-1, state.particles.shape[-1])
    return Particles(
        on_device(position),
        on_device(log_weight.ravel(), position.dtype),
        count,
        evaluations,
        estimate,
        error,
    )


@quick_jit
def _tempering_step(rng_key, states, target, reference: Reference, step_sizes, ess, num_moves):
    import blackjax
    from blackjax.smc import adaptive_tempered, resampling

    hmc = blackjax.hmc.build_kernel()

    def one(rng_key, state, step_size):
        def move(rng_key, state, log_density, inverse_mass_matrix):
            jitter_key, move_key = jax.random.split(rng_key)
            step = step_size * _jitter(jitter_key, step_size.dtype)
            return hmc(move_key, state, log_density, step, inverse_mass_matrix, NUM_LEAPFROGS)

        kernel = adaptive_tempered.build_kernel(
            in_turn(target, eqx.Partial(reference.log_density, target)),
            in_turn(target, eqx.Partial(reference.log_ratio, target)),
            move,
            blackjax.hmc.init,
            resampling.systematic,
            ess,
        )
        mass = particle_covariance(state.particles, jnp.log(state.weights))
        parameters = {"inverse_mass_matrix": mass[None]}
        state, info = kernel(rng_key, state, num_moves, parameters)
        acceptance = jnp.mean(info.update_info.acceptance_rate)
        return state, acceptance, info.log_likelihood_increment

    return jax.vmap(one)(jax.random.split(rng_key, NUM_GROUPS), states, step_sizes)


NUM_REFRESHING = 8
"""Moves of `refreshed`, each of which takes one gradient for each leapfrog step."""


@quick_jit
def refreshed(
    rng_key: RNGKey,
    target: Target,
    position: Float[Array, "num dim"],
    *,
    num_moves: int = NUM_REFRESHING,
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
    log_density = in_turn(target, target.log_density)
    states = jax.vmap(blackjax.hmc.init, in_axes=(0, None))(position, log_density)

    def move(carry, index):
        states, step_size = carry
        keys = jax.random.split(jax.random.fold_in(rng_key, index), len(position))

        def one(key, state):
            jitter_key, move_key = jax.random.split(key)
            step = step_size * _jitter(jitter_key, step_size.dtype)
            return hmc(move_key, state, log_density, step, mass, NUM_LEAPFROGS)

        states, info = jax.vmap(one)(keys, states)
        gain = jnp.where(index < num_moves // 2, jnp.mean(info.acceptance_rate) - 0.7, 0.0)
        return (states, step_size * jnp.exp(jnp.clip(2 * gain, -0.7, 0.4))), None

    start = jnp.asarray(0.5 * target.dim**-0.25, position.dtype)
    (states, _), _ = jax.lax.scan(move, (states, start), jnp.arange(num_moves))
    return states.position


def _jitter(rng_key: RNGKey, dtype) -> Scalar:
    """A random share of the step size: paths of one length come back to where they began."""
    return jax.random.uniform(rng_key, (), dtype, 0.3, 1.0)


def particle_covariance(
    position: Float[Array, "num dim"], log_weight: Float[Array, " num"]
) -> Float[Array, " dim"] | Float[Array, "dim dim"]:
    """Weighted covariance, or variances above `DENSE_LIMIT` dimensions; never singular."""
    weight = jax.nn.softmax(log_weight)
    centred = position - weight @ position
    dim = position.shape[1]
    variance = weight @ centred**2 + 1e-12
    if dim > DENSE_LIMIT:
        return variance
    return (centred.T * weight) @ centred + 1e-6 * jnp.diag(variance)


def _log_ratio(density, target: Target, position) -> Scalar:
    return target.log_density(position) - density(target, position)


def _normal_density(transform: AbstractMap, scale, target: Target, position) -> Scalar:
    noise = transform.inverse(position)
    log_prob = normal_log_prob(noise, jnp.zeros_like(noise), jnp.full_like(noise, scale))
    return log_prob - transform.log_det(noise)


def from_wide(rng_key: RNGKey, tops: DenseMap, num: int, *, scale: float = 2.0) -> Reference:
    """Start from a normal distribution that covers several normal distributions.

    Args:
        rng_key: Randomness of the draws.
        tops: The normal distributions to cover, each with the same weight.
        num: Number of draws.
        scale: How much wider than their mixture it is.
    """
    locations, factors = tops.location, tops.factor
    mean = jnp.mean(locations, axis=0)
    between = (locations - mean).T @ (locations - mean) / len(locations)
    within = jnp.mean(factors @ jnp.swapaxes(factors, 1, 2), axis=0)
    size = jnp.sqrt(jnp.diagonal(within + between))
    correlation = (within + between) / size / size[:, None]
    correlation = correlation + 1e-3 * jnp.eye(len(size), dtype=size.dtype)
    transform = DenseMap(mean, size[:, None] * jnp.linalg.cholesky(correlation))
    noise = scale * jax.random.normal(rng_key, (num, mean.size), mean.dtype)
    density = eqx.Partial(_normal_density, transform, on_device(scale, noise.dtype))

    return Reference(jax.vmap(transform)(noise), density, eqx.Partial(_log_ratio, density))
