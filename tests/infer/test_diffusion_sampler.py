"""From draws, or from the log joint alone, to a posterior with weights and a density."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import multivariate_normal
from numpyro.infer import MCMC, NUTS
from numpyro.infer.reparam import NeuTraReparam
from numpyro.infer.util import log_density

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import diagonal_map, identity_map
from numpyro_bridge.atlas.particles import (
    from_normal,
    from_prior,
    from_prior_or_fit,
    refreshed,
    tempered_particles,
)
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion import weightings
from numpyro_bridge.infer.flow_guide import FlowGuide
from tests import targets
from tests.catalogue import narrow
from tests.hill import interrupt_first_of
from tests.statistics import assert_same_mean, assert_same_weighted_mean

TINY = {
    "denoiser": partial(nb.diffusion.untrained_denoiser, width=16, depth=1),
    "num_steps": 16,
    "num_iterations": 150,
    "num_draws": 64,
    "progress_bar": False,
}
X, Y = targets.regression_data()
MEAN, COVARIANCE, LOG_EVIDENCE = targets.regression_posterior(X, Y)


@pytest.fixture(scope="module")
def exact_draws() -> dict:
    w = jax.random.multivariate_normal(jax.random.key(5), MEAN, COVARIANCE, (1_000,))
    return {"w": w, "slope": w[:, 1]}


@pytest.fixture(scope="module")
def posterior(exact_draws) -> nb.Posterior:
    sampler = nb.DiffusionSampler(targets.regression, **TINY)
    return sampler.run(jax.random.key(0), X, y=Y, draws=exact_draws)


@pytest.mark.slow
def test_draws_become_weighted_draws_and_evidence(posterior):
    draws = posterior.sample(jax.random.key(1), num_samples=2_000)
    assert abs(draws.log_evidence - LOG_EVIDENCE) < 5 * draws.log_evidence_error + 1e-3
    assert draws.ess > 0.95
    assert draws.verdict.trustworthy
    assert_same_weighted_mean(draws.sites["slope"], draws.log_weight, MEAN[1])
    assert posterior.report.num_gradient_evaluations == 1_000
    assert posterior.report.weighting == "uniform"
    assert posterior.standardisation.fit is None
    assert posterior.metrics.loss[-20:].mean() < posterior.metrics.loss[:20].mean()


def test_a_learned_posterior_is_a_small_file(posterior, tmp_path):
    path = tmp_path / "posterior"
    posterior.save(path)
    loaded = nb.load(path, targets.regression)
    assert loaded.report == posterior.report
    jax.tree.map(np.testing.assert_array_equal, loaded.metrics, posterior.metrics)
    before, after = (p.sample(jax.random.key(2), num_samples=10) for p in (posterior, loaded))
    np.testing.assert_array_equal(before.log_weight, after.log_weight)
    assert path.stat().st_size < 200_000


def test_given_draws_bound_the_evidence_from_above(posterior, exact_draws):
    backward = posterior.run_backward(jax.random.key(3), exact_draws)
    assert backward.eubo > LOG_EVIDENCE - 5 * backward.eubo_error
    assert backward.ess > 0.95


@pytest.mark.slow
def test_nuts_is_transported_by_the_flow(posterior):
    """Exact for any flow: the moments are those of the posterior, whatever the network learned."""
    neutra = NeuTraReparam(posterior.as_guide(num_steps=3), params={})
    mcmc = MCMC(
        NUTS(neutra.reparam(targets.regression)),
        num_warmup=300,
        num_samples=2_000,
        progress_bar=False,
    )
    mcmc.run(jax.random.key(9), X, y=Y)
    w = neutra.transform_sample(mcmc.get_samples()["flow_shared_latent"])["w"]
    thinned = np.asarray(w)[::4]
    assert_same_mean(thinned, jnp.asarray(MEAN))
    assert_same_mean((thinned - MEAN) ** 2, jnp.asarray(np.diag(COVARIANCE)))


def test_the_flow_of_a_guide_has_the_density_of_its_draws(posterior):
    """The steps have a determinant of their own, which tends to that of the equation."""
    guide = posterior.as_guide(num_steps=32)
    flow = dist.TransformedDistribution(guide.get_base_dist(), guide.get_transform({}))
    values = jax.jit(lambda key: flow.sample(key, (5,)))(jax.random.key(2))
    noise = flow.base_dist.sample(jax.random.key(2), (5,))
    log_det = guide.get_transform({}).log_abs_det_jacobian(noise, values)
    log_prob = jax.jit(posterior.as_distribution().log_prob)(values)
    np.testing.assert_allclose(flow.base_dist.log_prob(noise) - log_det, log_prob, atol=0.01)


def test_a_flow_keeps_sites_in_the_order_that_numpyro_joins_them(key):
    target = nb.target_from_model(key, targets.unordered)
    means = target.joined(targets.UNORDERED_MEANS)
    narrow = StandardisedTarget(target, diagonal_map(means, jnp.full(3, 0.01)))
    guide = FlowGuide(
        nb.diffusion.untrained_denoiser(key, 3, width=4, depth=1), narrow, num_steps=2
    )
    values = guide._unpack_latent(guide.get_posterior({}).sample(key))
    for name, mean in targets.UNORDERED_MEANS.items():
        np.testing.assert_allclose(values[name], mean, atol=0.2)


def test_a_bridge_is_no_guide_for_transport(posterior):
    process = nb.CMCD(jax.random.key(0), 2, num_steps=2, control=narrow(4))
    with pytest.raises(ValueError, match="CMCD has no density of its ends alone; train a flow"):
        replace(posterior, process=process).as_guide()
    plain = StandardisedTarget(targets.skewed().target, identity_map(2))
    with pytest.raises(ValueError, match="a guide needs a NumPyro model"):
        replace(posterior, target=plain).as_guide()


def test_a_posterior_is_the_prior_of_the_next_analysis(posterior):
    """Its density is the normal posterior's, so that new data give the joint one."""
    prior = posterior.as_distribution()
    draws = jax.jit(lambda key: prior.sample(key, (500,)))(jax.random.key(7))
    assert_same_mean(draws, jnp.tile(MEAN, (2, 1)))
    np.testing.assert_allclose(prior.sites(draws)["slope"], draws[:, 1])

    def next_model(x, y=None):
        w = prior.sites(numpyro.sample("posterior", prior))["w"]
        numpyro.sample("y", dist.Normal(w[0] + w[1] * x, targets.NOISE), obs=y)

    x, y = targets.regression_data(seed=1)
    values = draws[:8]

    @jax.jit
    @jax.vmap
    def log_joint(value):
        joint, trace = log_density(next_model, (x,), {"y": y}, {"posterior": value})
        return joint, trace["posterior"]["fn"].log_prob(value)

    updated, log_prob = log_joint(values)
    before = multivariate_normal.logpdf(values, MEAN, COVARIANCE)
    np.testing.assert_allclose(log_prob, before, atol=0.1)
    mean, covariance, evidence = targets.regression_posterior(
        np.concatenate([X, x]), np.concatenate([Y, y])
    )
    after = multivariate_normal.logpdf(values, mean, covariance) + evidence - LOG_EVIDENCE
    np.testing.assert_allclose(updated, after, atol=0.1)


def test_weights_of_given_draws_count():
    """Draws of one distribution, weighted to another, teach the other, with scores and without."""
    known = targets.conjugate_normal()
    wide = jax.random.multivariate_normal(jax.random.key(8), MEAN + 0.3, 2 * COVARIANCE, (2_000,))
    joint = jax.vmap(known.target.log_density)(wide)
    log_weight = joint - multivariate_normal.logpdf(wide, MEAN + 0.3, 2 * COVARIANCE)
    draws = nb.Draws({}, log_weight, wide, joint, known.target)
    sampler = nb.DiffusionSampler(known.target, with_scores=False, **TINY)
    posterior = sampler.run(jax.random.key(9), draws=draws, weighting=weightings.sigmoid)
    again = posterior.sample(jax.random.key(1), num_samples=2_000)
    assert again.ess > 0.8
    np.testing.assert_allclose(jnp.mean(again.position, 0), MEAN, atol=0.1)


def test_particles_arrive_at_all_modes():
    known = targets.two_modes()
    reference = from_normal(jax.random.key(0), known.target, 2_000)
    particles = tempered_particles(jax.random.key(1), known.target, reference)
    heavy = particles.position[:, 0] > 0
    weight = jax.nn.softmax(particles.log_weight)
    # Particles share ancestors: a binomial error would be too small.
    np.testing.assert_allclose(jnp.sum(weight[heavy]), targets.HEAVY, atol=0.08)
    assert particles.num_temperatures > 2


def test_moves_leave_the_target_as_it_is():
    known = targets.skewed()
    draws = known.draw(jax.random.key(2), 4_000)
    moved = refreshed(jax.random.key(3), known.target, draws, num_moves=4)
    assert float(jnp.mean(jnp.all(moved != draws, axis=1))) > 0.9
    assert_same_mean(jnp.tanh(moved), jnp.tanh(known.draw(jax.random.key(4), 4_000)))


def test_a_prior_is_a_start_where_it_can_be_drawn():
    target = nb.target_from_model(jax.random.key(0), targets.regression, X, y=Y)
    start = from_prior(jax.random.key(1), target, 500)
    assert start is not None
    assert_same_mean(start.position, 0.0)
    position = start.position[0]
    both = start.log_density(target, position) + start.log_ratio(target, position)
    np.testing.assert_allclose(both, target.log_density(position), rtol=1e-10)

    def vague():
        numpyro.sample("x", dist.Normal(0, 1e5))

    vague = nb.target_from_model(jax.random.key(0), vague)
    assert from_prior(jax.random.key(1), vague, 100) is None
    assert from_prior(jax.random.key(1), targets.skewed().target, 100) is None


@pytest.fixture(scope="module")
def two_modes_in_rounds():
    """Two modes, and a sampler that learns them from the log joint alone."""
    known = targets.two_modes()
    settings = TINY | {"start": from_normal, "num_particles": 1_000, "max_rounds": 2}
    return known, nb.DiffusionSampler(known.target, max_charts=1, **settings)


@pytest.mark.slow
def test_the_log_joint_alone_is_enough(two_modes_in_rounds):
    """Two modes of unequal weight on a single map, from a start that covers both."""
    known, sampler = two_modes_in_rounds
    posterior = sampler.run(jax.random.key(4))
    draws = posterior.sample(jax.random.key(5), num_samples=4_000)
    assert abs(draws.log_evidence - known.log_evidence) < 5 * draws.log_evidence_error
    assert draws.ess > 0.2
    heavy = draws.position[:, 0] > 0
    assert_same_weighted_mean(heavy, draws.log_weight, targets.HEAVY)
    first, second = posterior.report.rounds
    assert posterior.report.num_iterations == 300 and max(first.ess, second.ess) > 0.2
    assert posterior.report.num_temperatures > 2 and posterior.report.seconds.particles > 0


def test_ctrl_c_ends_the_rounds(monkeypatch, two_modes_in_rounds):
    begun = interrupt_first_of(monkeypatch)
    posterior = two_modes_in_rounds[1].run(jax.random.key(4))
    assert len(begun) == 1 == len(posterior.report.rounds)
    assert posterior.report.stopped == "interrupted" and posterior.report.num_iterations == 25
    assert np.isfinite(posterior.sample(jax.random.key(2), num_samples=10).elbo)


def test_a_normal_fit_is_a_start_where_there_is_no_prior():
    known = targets.normal([0.3, -50.0], np.diag([1e-4, 100.0]))
    start = from_prior_or_fit(jax.random.key(0), known.target, 500)
    spread = np.std(start.position, axis=0)
    np.testing.assert_allclose(spread, [0.02, 20.0], rtol=0.2)


def test_errors_say_what_to_write_instead(posterior):
    sampler = nb.DiffusionSampler(targets.regression, **TINY)
    with pytest.raises(ValueError, match="Latent sites \\['w'\\] are missing"):
        sampler.run(jax.random.key(0), X, y=Y, draws={"slope": np.ones(9)})
    with pytest.raises(ValueError, match="should have shape \\(num, 2\\), got \\(9, 3\\)"):
        sampler.run(jax.random.key(0), X, y=Y, draws=np.ones((9, 3)))
    with pytest.raises(ValueError, match="0 of 9 draws have a finite log density"):
        sampler.run(jax.random.key(0), X, y=Y, draws=np.full((9, 2), np.nan))
    with pytest.raises(ValueError, match="num_particles must be a whole number >= 100.*got 10"):
        nb.DiffusionSampler(targets.regression, num_particles=10)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="model"):
        nb.DiffusionSampler("regression")  # pyright: ignore[reportArgumentType]
    target = targets.two_modes().target
    with pytest.raises(ValueError, match="without further arguments"):
        nb.DiffusionSampler(target, **TINY).run(jax.random.key(0), X)
    with pytest.raises(ValueError, match="without sites: give draws as positions"):
        nb.DiffusionSampler(target, **TINY).run(jax.random.key(0), draws={"x": np.ones((9, 2))})
    bridge = nb.Posterior(
        nb.DBS(jax.random.key(0), 2, num_steps=2),
        posterior.target,
        posterior.standardisation,
        posterior.metrics,
    )
    with pytest.raises(ValueError, match="DBS has no density of its ends alone"):
        bridge.as_distribution()
