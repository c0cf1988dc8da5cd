"""Log importance weights: the quality of draws, the evidence, and the correction of draws.

There is one sign convention: `log_weight = log target - log proposal`, in nats. A higher value
means that the proposal visits the draw *less* often than the target would. Constants cancel
everywhere but in `log_evidence` and `elbo`. All functions take and return plain arrays.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.pareto import fit_pareto
from numpyro_bridge._core.types import RNGKey, Scalar

MIN_DRAWS_FOR_TAIL = 25
"""The tail is at most a fifth of the draws, and the fit of a Pareto tail needs five values."""

FEWEST_IN_TAIL = 5
"""Weights that a tail is fitted to at least."""

FLAT_TAIL = 0.01
"""If the log weights of the tail differ by at most this many nats, there is no tail to fit."""


def effective_sample_size(log_weight: Float[Array | np.ndarray, " num"]) -> float:
    """Effective sample size as a share of the draws, `(sum w)^2 / (num sum w^2)`, in (0, 1].

    It is one if all weights are equal, and `1 / num` if a single draw carries everything. It knows
    only the regions that were visited: read it together with the k-hat of `pareto_smooth`.

    Args:
        log_weight: log target minus log proposal, in nats.
    """
    value = np.asarray(log_weight, np.float64)
    with np.errstate(invalid="ignore"):  # NaN where no draw has a weight
        weight = np.exp(value - np.max(value))
        return float(np.minimum(np.sum(weight) ** 2 / (value.size * np.sum(weight**2)), 1.0))


@jax.jit
def log_evidence(log_weight: Float[Array, " num"]) -> tuple[Scalar, Scalar]:
    """Log of the mean weight, an estimate of the log normalising constant, and its standard error.

    The error is that of the delta method, `sd(w) / (mean(w) sqrt(num))`. It is only as reliable as
    the variance of the weights: with a k-hat above 0.7 both are meaningless.

    Args:
        log_weight: log target minus log proposal, in nats.

    Returns:
        `(estimate, error)`, both in nats; the error of a single draw is infinite.
    """
    num = log_weight.shape[0]
    estimate = logsumexp(log_weight) - jnp.log(num)
    return estimate, _standard_error(jnp.exp(log_weight - estimate))


@jax.jit
def elbo(log_weight: Float[Array, " num"]) -> tuple[Scalar, Scalar]:
    """Mean log weight, a lower bound on the log evidence, and its standard error.

    Args:
        log_weight: log target minus log proposal, in nats.

    Returns:
        `(mean, error)`, both in nats; the error of a single draw is infinite.
    """
    return jnp.mean(log_weight), _standard_error(log_weight)


def tail_share(log_weight: Float[Array | np.ndarray, " num"], pareto_k: float) -> float:
    """The share of all weight that the heaviest draw and those beyond it may carry.

    The tail index says how fast a tail falls and nothing about how much there is of it. One draw in
    `num` is heavier than the heaviest one was. By the fitted tail such draws carry no larger share
    of the sum than this: the size of the heaviest draw, and beyond it an excess of `1 / (1 - k)`
    times the length of the tail, which is more than the mean excess. With a share of one percent an
    evidence is uncertain by about 0.01 nats more than its standard error says.

    Args:
        log_weight: log target minus log proposal, in nats.
        pareto_k: The tail index of `pareto_smooth`.
    """
    value = np.asarray(log_weight, np.float64)
    value = value[np.isfinite(value)]
    num = len(log_weight)
    if value.size < 2:
        return 1.0
    weight = np.exp(value - np.logaddexp.reduce(value))
    ordered = np.sort(weight)
    tail = min(_tail_length(num), value.size - 1)
    excess = (ordered[-1] - ordered[-1 - tail]) / (1 - min(max(pareto_k, 0.0), 0.9))
    return float(min(ordered[-1] + excess, 1.0))


def _tail_length(num: int) -> int:
    return min(max(int(3 * num**0.5), 5), num // 5) if num >= MIN_DRAWS_FOR_TAIL else num - 1


def _standard_error(values: Float[Array, " num"]) -> Scalar:
    num = values.shape[0]
    if num == 1:
        return jnp.full((), jnp.inf, values.dtype)
    return jnp.std(values, ddof=1) / num**0.5


class Smoothed(NamedTuple):
    """Normalised and Pareto-smoothed log weights, shape (num,), and the tail index k-hat."""

    log_weight: Float[Array, " num"]
    pareto_k: float


def pareto_smooth(
    log_weight: Float[Array | np.ndarray, " num"], resolution: float = 0.0
) -> Smoothed:
    """Replace the largest weights by quantiles of a Pareto distribution that is fitted to them.

    The distribution is the generalised Pareto distribution. Its fitted shape, k-hat, is the honest
    diagnostic of importance sampling: below 0.5 the weights have a finite variance, and above 0.7
    no practical number of draws averages them out. It is `-inf` where there is no tail at all (the
    largest weights agree within one percent, as for an exact sampler). It is `inf` where no tail
    can be fitted: there are fewer than 25 draws, or fewer than five carry almost all the weight.

    It is computed in double precision by NumPy, and cannot be traced by `jax.jit`.

    Args:
        log_weight: log target minus log proposal, in nats; `-inf` is a weight of zero.
        resolution: the step that rounding left between log weights, in nats. Equal weights are
            spread over one such step while the tail is fitted, since it is one of numbers that
            differ.

    Returns:
        `(log_weight, pareto_k)`; the smoothed weights sum to one and keep the order of the draws.

    Raises:
        ValueError: if a weight is NaN or infinite, or if all of them are zero.

    Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto smoothed importance sampling", JMLR 2024.
    """
    require_usable(log_weight)
    value = np.asarray(log_weight, np.float64)
    value = _spread(value - np.max(value), resolution)
    smoothed, pareto_k = _smoothed(value)
    smoothed = smoothed - np.logaddexp.reduce(smoothed)
    return Smoothed(on_device(smoothed, jnp.result_type(log_weight)), pareto_k)


def _spread(value: Float[np.ndarray, " num"], resolution: float) -> Float[np.ndarray, " num"]:
    """Move equal values apart, evenly over one step of this width; others stay where they are."""
    _, group, count = np.unique(value, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    first = np.repeat(np.cumsum(count) - count, count)
    number = np.empty(value.size)
    number[order] = np.arange(value.size) - first
    return value + resolution * ((number + 0.5) / count[group] - 0.5)


def _smoothed(log_weight: Float[np.ndarray, " num"]) -> tuple[Float[np.ndarray, " num"], float]:
    """Smoothed log weights, of which the largest is zero, and k-hat."""
    num = log_weight.size
    tail = _tail_length(num)
    order = np.argsort(log_weight, kind="stable")
    if num > 1 and -log_weight[order[-1 - tail]] <= FLAT_TAIL:
        return log_weight, -np.inf
    if num < MIN_DRAWS_FOR_TAIL:
        return log_weight, np.inf
    # Below this, differences of weights would be lost beside the largest weight.
    cutoff = max(log_weight[order[-1 - tail]], np.log(np.finfo(np.float64).tiny))
    largest = order[-tail:]
    largest = largest[log_weight[largest] > cutoff]
    if largest.size < FEWEST_IN_TAIL:
        return log_weight, np.inf
    pareto = fit_pareto(np.exp(log_weight[largest]) - np.exp(cutoff))
    # Ties in a tail of few distinct values make the fit NaN; that does not make the tail harmless.
    if not np.isfinite(pareto.shape):
        return log_weight, np.inf
    grid = (np.arange(largest.size) + 0.5) / largest.size
    smoothed = log_weight.copy()
    smoothed[largest] = np.minimum(np.log(pareto.quantile(grid) + np.exp(cutoff)), 0.0)
    return smoothed, pareto.shape


def require_usable(log_weight: Float[Array | np.ndarray, " *shape"]) -> None:
    """Raise a `ValueError` if the weights cannot rank the draws."""
    values = np.asarray(log_weight)
    bad = int(np.sum(np.isnan(values) | np.isposinf(values)))
    if bad:
        raise ValueError(
            f"log_weight should be finite (or -inf for a weight of zero), but {bad} of "
            f"{values.size} values are NaN or +inf: the simulation overflowed. Train with a "
            "smaller learning rate, with more steps, or in float64 (numpyro.enable_x64())."
        )
    if not np.any(np.isfinite(values)):
        raise ValueError(
            f"log_weight should have at least one finite value, but all {values.size} are -inf: "
            "no draw lies where the target has any mass. Draw more, or train the sampler first."
        )


@partial(jax.jit, static_argnames="num_samples")
def resample_indices(
    rng_key: RNGKey, log_weight: Float[Array, " num"], num_samples: int
) -> Int[Array, " num_samples"]:
    """Indices of equally weighted draws, by systematic resampling, in random order.

    A draw of normalised weight w is taken `floor(w num_samples)` or `ceil(w num_samples)` times.
    That has the same expectation as multinomial resampling, and less noise.

    Args:
        rng_key: a JAX key.
        log_weight: log target minus log proposal, in nats; need not be normalised.
        num_samples: how many indices to return, at least one.
    """
    offset_key, order_key = jax.random.split(rng_key)
    cumulative = jnp.cumsum(jax.nn.softmax(log_weight))
    cumulative = cumulative / cumulative[-1]
    one = jnp.ones((), cumulative.dtype)
    grid = (jnp.arange(num_samples) + jax.random.uniform(offset_key, (), one.dtype)) / num_samples
    # Rounding may lift the last point to one, past every draw.
    grid = jnp.minimum(grid, jnp.nextafter(one, jnp.zeros_like(one)))
    indices = jnp.searchsorted(cumulative, grid, side="right")
    return jax.random.permutation(order_key, indices)


class IndependenceChains(NamedTuple):
    """Independence Metropolis-Hastings chains; every field has shape (num_chains, num_proposals).

    `indices` is the state at each step, as an index into the chain's own proposals; `accepted`
    says whether the step's own proposal was taken, `acceptance_probability` how likely that was.
    """

    indices: Int[Array, "num_chains num_proposals"]
    accepted: Bool[Array, "num_chains num_proposals"]
    acceptance_probability: Float[Array, "num_chains num_proposals"]


@jax.jit
def independence_metropolis(
    rng_key: RNGKey, log_weight: Float[Array, "num_chains num_proposals"]
) -> IndependenceChains:
    """Turn i.i.d. weighted draws into Markov chains that have the target as their distribution.

    At step i a chain is offered its i-th proposal and moves there with probability
    `min(1, weight of the proposal / weight of the state)`. This leaves the target invariant for any
    distribution of the proposals (on path space, if the weights are those of whole trajectories).
    Equal weights accept every proposal. Poor proposals make chains stick, and the effective sample
    size and r-hat of MCMC were made to show that.

    A chain has no beginning: it is closed to a ring, so that the state before its first step is the
    one after its last step. The state at every step has then been offered the same number of
    independent proposals, `num_proposals`. Its remaining bias is that after a burn-in of this
    length, but no draw is thrown away. (Starting at the first proposal, or at one picked by weight,
    would leave a bias of order `1 / num_proposals`.) One pass around the ring is enough, since the
    proposal of largest weight is accepted from any state, so that the state there is known.

    Args:
        rng_key: a JAX key.
        log_weight: log target minus log proposal of i.i.d. proposals, in nats. A chain needs at
            least one finite value.

    Tierney, "Markov chains for exploring posterior distributions", Annals of Statistics 1994.
    """
    keys = jax.random.split(rng_key, log_weight.shape[0])
    return IndependenceChains(*jax.vmap(_independence_chain)(keys, log_weight))


def _independence_chain(
    rng_key: RNGKey, log_weight: Float[Array, " num_proposals"]
) -> tuple[Array, Array, Array]:
    num = log_weight.shape[0]
    uniform = jax.random.uniform(rng_key, (num,), log_weight.dtype)
    start = jnp.argmax(log_weight)

    def step(state, proposal):
        probability = jnp.exp(jnp.minimum(log_weight[proposal] - log_weight[state], 0))
        accepted = uniform[proposal] < probability
        state = jnp.where(accepted, proposal, state)
        return state, (state, accepted, probability)

    _, path = jax.lax.scan(step, start, (start + jnp.arange(num)) % num)
    indices, accepted, probability = (jnp.roll(value, start, axis=0) for value in path)
    return indices, accepted, probability
