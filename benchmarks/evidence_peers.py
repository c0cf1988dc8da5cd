"""Samplers that estimate the evidence, each from a model to weighted draws.

What is not set here has the default of the package that it comes from.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.split_model import SplitModel, split

NUM_DRAWS = 4_000
NUM_PARTICLES = 1_000
NUM_LIVE = 500


class Estimate(NamedTuple):
    """What a sampler says."""

    log_evidence: float
    error: float | None
    """The standard error that it states; None where it states none."""
    sites: dict[str, np.ndarray]
    log_weight: np.ndarray
    """The log weight of each draw, not normalised."""


def by_bridge(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Estimate:
    """The defaults of this library."""
    import numpyro_bridge as nb

    sampler = nb.BridgeSampler(model, progress_bar=False)
    posterior = sampler.run(jax.random.key(key), **kwargs)
    draws = posterior.sample(jax.random.key(1_000 + key), NUM_DRAWS)
    error = draws.log_evidence_error
    sites = {name: np.asarray(value) for name, value in draws.sites.items()}
    return Estimate(draws.log_evidence, error, sites, np.asarray(draws.log_weight))


# --- BlackJAX -------------------------------------------------------------------------------------


def by_tempered_smc(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Estimate:
    """Adaptive tempered SMC: HMC whose scales are those of the particles, kept above half ESS."""
    import blackjax
    from blackjax.smc import extend_params, resampling

    # Its annotation says an array, its documentation and its code any tree of arrays.
    shared: Any = extend_params

    known = split(model, kwargs)

    def parameters(_, state, info):
        variance = jnp.var(state.particles, axis=0)
        return shared({"inverse_mass_matrix": variance, "step_size": jnp.asarray(step_size)})

    def hmc(key, state, logdensity, inverse_mass_matrix, step_size):
        return kernel(
            key, state, logdensity, step_size, inverse_mass_matrix, num_integration_steps=10
        )

    kernel, step_size = blackjax.hmc.build_kernel(), 0.6 * known.dim**-0.25
    start_key, key_of_steps = jax.random.split(jax.random.key(key))
    particles = known.draw_prior(start_key, NUM_PARTICLES)
    first = {
        "inverse_mass_matrix": jnp.var(particles, axis=0),
        "step_size": jnp.asarray(step_size),
    }
    smc = blackjax.inner_kernel_tuning(
        smc_algorithm=blackjax.adaptive_tempered_smc,
        logprior_fn=known.log_prior,
        loglikelihood_fn=known.log_likelihood,
        mcmc_step_fn=hmc,
        mcmc_init_fn=blackjax.hmc.init,
        resampling_fn=resampling.systematic,
        mcmc_parameter_update_fn=parameters,
        initial_parameter_value=shared(first),
        num_mcmc_steps=5,
        target_ess=0.5,
    )
    step = jax.jit(smc.step)
    start: Any = smc.init  # which needs no key
    state, log_evidence = start(particles), 0.0
    while float(state.sampler_state.tempering_param) < 1:
        key_of_steps, step_key = jax.random.split(key_of_steps)
        state, info = step(step_key, state)
        log_evidence += float(info.log_likelihood_increment)
    sites = known.sites(state.sampler_state.particles)
    return Estimate(log_evidence, None, sites, np.zeros(NUM_PARTICLES))


def by_nested_slices(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Estimate:
    """Nested slice sampling: 2 dim inner steps, a tenth of the live points replaced at a time."""
    import blackjax
    from blackjax.ns.utils import finalise, log_weights

    known = split(model, kwargs)
    start_key, weight_key, key_of_steps = jax.random.split(jax.random.key(key), 3)
    nested = blackjax.nss(
        logprior_fn=known.log_prior,
        loglikelihood_fn=known.log_likelihood,
        num_inner_steps=2 * known.dim,
        num_delete=NUM_LIVE // 10,
    )
    start: Any = nested.init  # which needs no key
    state = jax.jit(start)(known.draw_prior(start_key, NUM_LIVE))
    step, dead = jax.jit(nested.step), []
    while float(state.integrator.logZ_live - state.integrator.logZ) > -3:
        key_of_steps, step_key = jax.random.split(key_of_steps)
        state, info = step(step_key, state)
        dead.append(info)
    if not dead:
        raise ValueError(
            "the evidence of the live points is no number, so that nothing was sampled"
        )
    every = finalise(state, dead)
    log_weight = log_weights(weight_key, every)
    log_evidences = np.asarray(jax.nn.logsumexp(log_weight, axis=0))
    sites = known.sites(every.particles.position)
    weights = np.asarray(jnp.mean(log_weight, axis=1))
    return Estimate(float(log_evidences.mean()), float(log_evidences.std()), sites, weights)


# --- others ---------------------------------------------------------------------------------------


def by_jaxns(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Estimate:
    """NumPyro's own `NestedSampler`, which may take more samples than by default."""
    from numpyro.contrib.nested_sampling import NestedSampler

    sampler = NestedSampler(model, constructor_kwargs={"max_samples": 1e6})
    sampler.run(jax.random.key(key), **kwargs)
    sites, log_weight = sampler.get_weighted_samples()
    results: Any = sampler._results  # NumPyro shows the evidence in no other way
    valid = slice(int(results.total_num_samples))
    sites = jax.tree.map(lambda value: np.asarray(value)[valid], sites)
    log_evidence, error = float(results.log_Z_mean), float(results.log_Z_uncert)
    return Estimate(log_evidence, error, sites, np.asarray(log_weight)[valid])


def by_pocomc(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Estimate:
    """Preconditioned Monte Carlo with a flow, with its defaults."""
    import pocomc  # pyright: ignore[reportMissingImports]

    known = split(model, kwargs)
    sampler = pocomc.Sampler(
        _PriorOf(known, key), _by_hundreds(known.log_likelihood), vectorize=True, random_state=key
    )
    sampler.run(progress=False)
    positions, weight, _, _ = sampler.posterior()
    log_evidence, error = sampler.evidence()
    sites = known.sites(positions.astype(np.float32))
    return Estimate(float(log_evidence), float(error), sites, np.log(weight))


def by_dynesty(model: Callable[..., Any], kwargs: dict[str, Any], key: int) -> Estimate:
    """Nested sampling in the unit cube with 500 live points and otherwise the defaults."""
    import dynesty  # pyright: ignore[reportMissingImports]
    from numpyro.contrib.nested_sampling import uniform_reparam_transform

    known = split(model, kwargs)
    to_position = jax.jit(_from_unit_cube(model, kwargs, uniform_reparam_transform))
    log_likelihood = jax.jit(known.log_likelihood)
    sampler = dynesty.NestedSampler(
        lambda x: float(log_likelihood(x.astype(np.float32))),
        lambda u: np.asarray(to_position(u.astype(np.float32)), float),
        known.dim,
        nlive=NUM_LIVE,
        rstate=np.random.default_rng(key),
    )
    sampler.run_nested(print_progress=False)
    found = sampler.results
    sites = known.sites(found.samples.astype(np.float32))
    return Estimate(float(found.logz[-1]), float(found.logzerr[-1]), sites, found.logwt)


PEERS: dict[str, Callable[..., Estimate]] = {
    "bridge": by_bridge,
    "tempered_smc": by_tempered_smc,
    "nested_slices": by_nested_slices,
    "jaxns": by_jaxns,
    "pocomc": by_pocomc,
    "dynesty": by_dynesty,
}


class _PriorOf:
    """The prior of a model as pocoMC reads it."""

    def __init__(self, known: SplitModel, key: int):
        self.dim = known.dim
        self.bounds = np.tile([-np.inf, np.inf], (known.dim, 1))
        self._draw, self._key = known.draw_prior, jax.random.key(key)
        self.logpdf = _by_hundreds(known.log_prior)

    def rvs(self, size: int = 1) -> np.ndarray:
        """Draw positions, shape `(size, dim)`."""
        self._key, key = jax.random.split(self._key)
        return np.asarray(self._draw(key, size), float)


def _by_hundreds(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Evaluate at many positions, in batches of few different sizes so that few are compiled."""
    compiled = jax.jit(jax.vmap(function))

    def at(positions: np.ndarray) -> np.ndarray:
        num = len(positions)
        padded = np.resize(positions, (-(-num // 256) * 256, positions.shape[1]))
        return np.asarray(compiled(padded.astype(np.float32)), float)[:num]

    return at


def _from_unit_cube(model, kwargs, transform_of):
    """From a point of the unit cube to an unconstrained position, site by site."""
    from jax.flatten_util import ravel_pytree
    from numpyro import handlers
    from numpyro.infer.util import unconstrain_fn

    def to_position(u):
        rest = u

        def substitute(site):
            nonlocal rest
            if site["type"] != "sample" or site["is_observed"]:
                return None
            shape = site["fn"].shape()
            num = int(np.prod(shape))
            here, rest = rest[:num], rest[num:]
            inside = jnp.clip(here, 1e-7, 1 - 1e-7).reshape(shape)
            return transform_of(site["fn"])(inside)

        filled = handlers.substitute(handlers.seed(model, 0), substitute_fn=substitute)
        trace = handlers.trace(filled).get_trace(**kwargs)
        latent = {
            name: site["value"]
            for name, site in trace.items()
            if site["type"] == "sample" and not site["is_observed"]
        }
        return ravel_pytree(unconstrain_fn(model, (), kwargs, latent))[0]

    return to_position
