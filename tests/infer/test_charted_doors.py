"""The guide and BlackJAX's interface on two modes: charts of their own, trained together."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm
from numpyro.infer import SVI, Trace_ELBO
from numpyro.optim import Adam

import numpyro_bridge as nb
from numpyro_bridge._core import weights
from numpyro_bridge.atlas.seen_target import pieces_of
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.trajectories import simulate_many
from numpyro_bridge.trajectories.ends import draw_end
from tests.catalogue import SMALL
from tests.infer.mirrored import SHARE, Y, exact, model
from tests.statistics import assert_same_mean, assert_same_weighted_mean

CMCD = partial(nb.CMCD, **SMALL)


def train(guide, optimizer, loss, num_iterations, **settings):
    svi = SVI(model, guide, optimizer, loss)
    return svi.run(jax.random.key(0), num_iterations, y=Y, progress_bar=False, **settings)


@pytest.fixture(scope="module")
def trained():
    """The guide, its first parameters, and the trained ones."""
    guide = nb.AutoBridge(model, process=CMCD)
    svi = SVI(model, guide, nb.bridge_optimizer(), nb.TraceReverseKLLD(32))
    first = svi.get_params(svi.init(jax.random.key(0), y=Y))
    return guide, first, train(guide, nb.bridge_optimizer(), nb.TraceReverseKLLD(32), 60)


def assert_exact(posterior: nb.Posterior) -> None:
    """Evidence and masses within their errors, and an ELBO below the evidence."""
    draws = posterior.sample(jax.random.key(1), num_samples=4_000)
    log_evidence, share = exact()
    assert abs(draws.log_evidence - log_evidence) < 4 * draws.log_evidence_error < 0.2
    assert draws.elbo <= log_evidence + 3 * draws.elbo_error
    mass, error = draws.chart_masses
    upper = int(np.argmax(mass))
    assert abs(mass[upper] - share) < 4 * error[upper] + 1e-3
    x = np.asarray(draws.sites["x"])
    assert_same_weighted_mean(x > 0, draws.log_weight, share)


@pytest.mark.slow
def test_a_guide_trained_on_both_charts_has_the_exact_masses(trained):
    guide, _, result = trained
    posterior = guide.to_posterior(result.params, result.losses)
    assert posterior.atlas.num_charts == posterior.target.num_charts == 2
    assert posterior.doubts == posterior.atlas.doubts
    assert np.mean(result.losses[-10:]) < np.mean(result.losses[:10])
    assert_exact(posterior)


def test_numpyros_own_loss_trains_a_guide_on_charts(trained):
    guide, first, _ = trained
    result = train(guide, Adam(1e-3), Trace_ELBO(num_particles=8), 10)
    moved = jax.tree.map(lambda a, b: a - b, result.params, first)
    assert np.any(ravel_pytree(moved["auto_process"])[0] != 0)
    assert not np.any(ravel_pytree(moved["auto_charts"])[0])
    assert_exact(guide.to_posterior(result.params))


def test_charts_are_not_trained_and_every_parameter_stays_finite(trained):
    _, first, result = trained
    for leaf in jax.tree.leaves(result.params):
        assert np.all(np.isfinite(leaf))
    jax.tree.map(np.testing.assert_array_equal, result.params["auto_charts"], first["auto_charts"])
    moved = jax.tree.map(lambda a, b: a - b, result.params["auto_process"], first["auto_process"])
    # Both rows, each of which is the bridge of one chart.
    assert all(np.any(ravel_pytree(row(moved, k))[0] != 0) for k in range(2))


def test_losses_of_a_guide_are_minus_the_bound_of_both_charts(trained, key):
    guide, _, result = trained
    process, target = guide.bridge(result.params)
    loss = nb.TraceReverseKLLD(32)

    @eqx.filter_jit
    def value_and_gradient(params):
        own = partial(loss.loss, key, model=model, guide=guide, y=Y)
        return jax.value_and_grad(lambda params: own(param_map=params))(params)

    value, gradient = value_and_gradient(result.params)
    by_hand = 0.0
    for k, (piece, one) in enumerate(zip(pieces_of(target), jax.random.split(key, 2), strict=True)):
        runs = eqx.filter_jit(simulate_many)(one, row(process, k), piece, 16)
        log_share = target.log_share[k]
        by_hand += np.exp(log_share) * np.mean(runs.log_weight - log_share)
    np.testing.assert_allclose(value, -by_hand, rtol=1e-9)
    assert not np.any(ravel_pytree(gradient["auto_charts"])[0])
    assert np.any(ravel_pytree(gradient["auto_process"])[0])


def test_trace_elbo_is_minus_the_log_weight_of_the_chart_and_the_path(trained, key):
    guide, _, result = trained

    def value_of(params):
        return Trace_ELBO().loss(key, params, model, guide, y=Y)

    value, gradient = jax.jit(jax.value_and_grad(value_of))(result.params)
    # NumPyro gives the guide this key, and the guide its path one that it draws from it.
    path_key = jax.random.split(jax.random.split(key)[1])[1]
    expected = -draw_end(path_key, *guide.bridge(result.params)).log_weight
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    assert not np.any(ravel_pytree(gradient["auto_charts"])[0])


def test_draws_and_quantiles_of_a_guide_are_those_of_all_charts(trained, key):
    guide, _, result = trained
    x = guide.sample_posterior(key, result.params, sample_shape=(15, 201))["x"]
    assert x.shape == (15, 201) and len(np.unique(x)) == x.size
    _, target = guide.bridge(result.params)
    upper = int(np.argmax(target.log_share))
    assert_same_mean(x.ravel() > 0, float(np.exp(target.log_share[upper])))
    assert guide.sample_posterior(key, result.params)["x"].shape == ()
    low, high = guide.quantiles(result.params, [0.15, 0.65])["x"]
    assert -6 < low < -4.5 and 4.5 < high < 6
    assert 4 < guide.median(result.params)["x"] < 6


def test_a_guide_goes_on_from_a_charted_posterior(trained, tmp_path):
    guide, _, result = trained
    posterior = guide.to_posterior(result.params)
    posterior.save(tmp_path / "file")
    loaded = nb.load(tmp_path / "file", model)
    assert loaded.atlas.num_charts == 2
    again = nb.AutoBridge(model, process=CMCD, standardise=nb.no_standardisation)
    svi = SVI(model, again, nb.bridge_optimizer(), nb.TraceReverseKLLD(32))
    state = svi.init(jax.random.key(2), y=Y, init_params=again.params_from(loaded))
    jax.tree.map(np.testing.assert_array_equal, svi.get_params(state), result.params)
    state, loss = jax.jit(lambda state: svi.update(state, y=Y))(state)
    assert np.isfinite(loss)
    # It is not known how charts came about that came with another posterior.
    other = again.to_posterior(svi.get_params(state))
    assert other.atlas is None and other.target.num_charts == 2


def test_a_guide_takes_charts_that_needed_no_bridge(trained):
    guide, *_ = trained
    posterior = nb.BridgeSampler(model, progress_bar=False).run(jax.random.key(0), y=Y)
    assert posterior.report.process == "Direct"
    params = guide.params_from(posterior)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))
    assert_exact(guide.to_posterior(params))


# --- BlackJAX -------------------------------------------------------------------------------------


def logdensity(position):
    """The density of `model`, of a position with a structure."""
    x = position["x"]
    slope = jnp.log(jnp.where(x > 0, SHARE, 1 - SHARE))
    return norm.logpdf(x, 0, 5) + norm.logpdf(25.0, x**2, 1.0) + slope


def test_a_blackjax_algorithm_trains_and_draws_on_both_charts(key):
    algorithm: Any = nb.as_blackjax(logdensity, process=CMCD, num_trajectories=32)
    state = algorithm.init({"x": 0.0}, key)
    assert state.view.log_share.shape == (2,)

    @jax.jit
    def run(state):
        def step(state, key):
            return algorithm.step(key, state)

        return jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 60))

    trained, metrics = run(state)
    assert metrics.elbo.shape == (60,) and not np.any(metrics.skipped)
    assert np.mean(metrics.elbo[-10:]) > np.mean(metrics.elbo[:10])
    jax.tree.map(np.testing.assert_array_equal, trained.view, state.view)
    positions, log_weight = algorithm.sample(jax.random.key(2), trained, 4_000)
    log_evidence, share = exact()
    estimate, error = weights.log_evidence(log_weight)
    assert abs(estimate - log_evidence) < 4 * error < 0.2
    assert np.mean(metrics.elbo) < log_evidence
    assert_same_weighted_mean(positions["x"] > 0, log_weight, share)


def test_exploring_inside_compiled_code_is_refused(key):
    algorithm: Any = nb.as_blackjax(logdensity, process=CMCD)
    with pytest.raises(ValueError, match="init explores the density.*no_standardisation"):
        jax.jit(algorithm.init)({"x": 0.0}, key)
