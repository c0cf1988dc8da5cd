"""The guide: the losses of SVI see the log weight, and the result is a posterior like any other."""

import pickle
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.infer import SVI, Predictive, Trace_ELBO, init_to_value, psis_diagnostic
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.reparam import NeuTraReparam

import numpyro_bridge as nb
from numpyro_bridge.trajectories.ends import draw_end
from tests import targets
from tests.catalogue import SMALL_UNDERDAMPED, perturbed
from tests.posteriors import CMCD, X, Y, nearly_standard
from tests.statistics import assert_same_weighted_mean


def guide_of(model=targets.regression, **settings) -> nb.AutoBridge:
    return nb.AutoBridge(model, **{"process": CMCD, "standardise": nearly_standard, **settings})


def seen(guide: nb.AutoBridge, *args) -> dict:
    """Let the guide see the data; its first parameters."""
    args, kwargs = (args, {}) if args else ((X,), {"y": Y})
    svi = SVI(guide.model, guide, nb.bridge_optimizer(), Trace_ELBO())
    return svi.get_params(svi.init(jax.random.key(0), *args, **kwargs))


def path_key(rng_key):
    """The key that the guide has for its path where NumPyro's losses are given `rng_key`."""
    guide_key = jax.random.split(rng_key)[1]
    return jax.random.split(guide_key)[1]


@pytest.fixture(scope="module")
def trained():
    guide = guide_of()
    svi = SVI(targets.regression, guide, nb.bridge_optimizer(), nb.TraceReverseKLLD(64))
    return guide, svi.run(jax.random.key(0), 100, X, y=Y, progress_bar=False)


# --- what losses see ------------------------------------------------------------------------------


def positive(x, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(scale * x, 1.0), obs=y)


def losses_of(guide, key):
    """Minus the log weight of one path, by NumPyro's loss and by hand."""

    def by_numpyro(params):
        return Trace_ELBO().loss(key, params, guide.model, guide, X, y=Y)

    def by_hand(params):
        return -draw_end(path_key(key), *guide.bridge(params)).log_weight

    return by_numpyro, by_hand


def test_trace_elbo_is_minus_the_log_weight_and_has_its_gradient(key):
    guide = guide_of(positive, standardise=nb.no_standardisation)
    params = perturbed(key, seen(guide))
    pairs = jax.jit(lambda p: [jax.value_and_grad(f)(p) for f in losses_of(guide, key)])(params)
    (value, gradient), (expected, expected_gradient) = pairs
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    flat, expected_flat = ravel_pytree(gradient)[0], ravel_pytree(expected_gradient)[0]
    assert jnp.linalg.norm(expected_flat) > 0.1
    np.testing.assert_allclose(flat, expected_flat, atol=1e-8 * jnp.max(jnp.abs(expected_flat)))
    assert not np.any(ravel_pytree(gradient["auto_charts"])[0])


def test_trace_elbo_is_minus_the_log_weight_with_a_momentum(key):
    underdamped = partial(nb.UnderdampedCMCD, **SMALL_UNDERDAMPED)
    guide = guide_of(positive, process=underdamped, standardise=nb.no_standardisation)
    params = perturbed(key, seen(guide))
    value, expected = jax.jit(lambda p: [f(p) for f in losses_of(guide, key)])(params)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_other_losses_are_minus_the_elbo_with_the_gradient_of_their_objective(trained, key):
    guide, result = trained
    params, loss = perturbed(key, result.params), nb.TraceLogVariance(16)

    @eqx.filter_jit
    def compare(params):
        def by_hand(params):
            value, runs = nb.log_variance(key, *guide.bridge(params), num_trajectories=16)
            return value, jnp.mean(runs.log_weight)

        by_numpyro = partial(loss.loss, key, model=guide.model, guide=guide, x=X, y=Y)
        numpyros = jax.value_and_grad(lambda params: by_numpyro(param_map=params))(params)
        return numpyros, jax.value_and_grad(by_hand, has_aux=True)(params)

    (value, gradient), ((_, elbo), expected) = compare(params)
    np.testing.assert_allclose(value, -elbo)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), gradient, expected)


def test_psis_diagnostic_sees_the_weights_of_paths(trained, key):
    guide, result = trained
    params = perturbed(jax.random.key(1), result.params, 0.3)
    k_hat = psis_diagnostic(key, params, guide.model, guide, X, y=Y, num_particles=4_000)
    draws = guide.to_posterior(params).sample(key, 4_000)
    assert k_hat == pytest.approx(draws.pareto_k, abs=0.2)


# --- training -------------------------------------------------------------------------------------


def test_parameters_that_svi_has_spoilt_are_refused_with_what_to_write(trained):
    guide, result = trained
    spoilt = jax.tree.map(lambda leaf: leaf * jnp.nan, result.params["auto_process"])
    with pytest.raises(ValueError, match=r"not finite.*svi.run\(..., stable_update=True\)"):
        guide.to_posterior({**result.params, "auto_process": spoilt})


def test_a_trained_guide_is_a_posterior_with_the_exact_evidence(trained):
    guide, result = trained
    mean, covariance, log_evidence = targets.regression_posterior(X, Y)
    posterior = guide.to_posterior(result.params, result.losses)
    draws = posterior.sample(jax.random.key(1), num_samples=2_000)
    assert draws.ess > 0.9 and np.mean(result.losses[-20:]) < np.mean(result.losses[:20]) - 0.05
    assert -np.mean(result.losses[-20:]) == pytest.approx(draws.elbo, abs=0.05)
    assert draws.log_evidence == pytest.approx(log_evidence, abs=5 * draws.log_evidence_error)
    for i in range(2):
        assert_same_weighted_mean(draws.sites["w"][:, i], draws.log_weight, mean[i])
    np.testing.assert_array_equal(posterior.metrics.elbo, -np.asarray(result.losses, float))
    assert posterior.report.num_iterations == len(result.losses)
    without = guide.to_posterior(result.params)
    assert without.metrics is None and without.report.num_iterations is None
    idata = nb.to_inference_data(draws, prior=False, predictive=False)
    assert idata["posterior"]["w"].shape == (4, 500, 2)
    assert idata["log_likelihood"]["y"].shape == (4, 500, 6)


def test_draws_are_independent_and_quantiles_are_theirs(trained, key):
    guide, result = trained
    draws = guide.sample_posterior(key, result.params, sample_shape=(2, 3_000))
    assert draws["w"].shape == (2, 3_000, 2) and draws["slope"].shape == (2, 3_000)
    assert len(np.unique(draws["slope"])) == 6_000
    one = guide.sample_posterior(key, result.params)
    assert one["w"].shape == (2,)
    np.testing.assert_allclose(one["slope"], one["w"][1])
    levels = jnp.asarray([0.1, 0.5, 0.9])
    quantiles = guide.quantiles(result.params, levels)
    assert quantiles["w"].shape == (3, 2)
    np.testing.assert_array_equal(guide.median(result.params)["w"], quantiles["w"][1])
    below = jnp.mean(draws["slope"].ravel()[:, None] < quantiles["slope"], axis=0)
    np.testing.assert_allclose(below, levels, atol=0.03)


def test_predictive_takes_new_covariates_and_keeps_the_posterior(trained, key):
    guide, result = trained
    predict = Predictive(targets.regression, guide=guide, params=result.params, num_samples=3_000)
    new = jnp.asarray([0.0, 2.0])
    predicted = predict(key, new)["y"]
    mean, covariance, _ = targets.regression_posterior(X, Y)
    design = np.stack([np.ones(2), np.asarray(new)], axis=1)
    variance = np.diag(design @ covariance @ design.T) + targets.NOISE**2
    assert np.all(np.abs(np.mean(predicted, axis=0) - design @ mean) < 0.2)
    np.testing.assert_allclose(np.var(predicted, axis=0), variance, rtol=0.15)


def test_training_goes_on_from_given_parameters(trained):
    guide, result = trained
    posterior = guide.to_posterior(result.params)
    again = guide_of()
    svi = SVI(again.model, again, nb.bridge_optimizer(), nb.TraceReverseKLLD(64))
    state = svi.init(jax.random.key(2), X, y=Y, init_params=again.params_from(posterior))
    jax.tree.map(np.testing.assert_array_equal, svi.get_params(state), result.params)


def test_an_initialisation_strategy_says_where_to_start(key):
    start = init_to_value(values={"w": jnp.asarray([5.0, -3.0])})
    guide = guide_of(init_loc_fn=start, init_scale=0.01, process=partial(CMCD, diffusion=1e-3))
    params = seen(guide)
    draws = guide.sample_posterior(key, params, sample_shape=(200,))
    np.testing.assert_allclose(draws["w"].mean(axis=0), [5.0, -3.0], atol=0.01)


def test_sites_keep_their_values_in_whatever_order_the_model_samples_them(key):
    """NumPyro joins them in that order, a target in the order of their names."""
    start = init_to_value(values=targets.UNORDERED_MEANS)
    still = partial(CMCD, diffusion=1e-3)
    guide = nb.AutoBridge(targets.unordered, process=still, init_loc_fn=start, init_scale=0.02)
    svi = SVI(targets.unordered, guide, nb.bridge_optimizer(), Trace_ELBO())
    params = svi.get_params(svi.init(key))
    trace = handlers.trace(handlers.seed(handlers.substitute(guide, params), key)).get_trace()
    draws = guide.sample_posterior(key, params)
    for name, value in targets.UNORDERED_MEANS.items():
        np.testing.assert_allclose(trace[name]["value"], value, atol=0.1)
        np.testing.assert_allclose(draws[name], value, atol=0.1)
    expected = -draw_end(path_key(key), *guide.bridge(params)).log_weight
    loss = Trace_ELBO().loss(key, params, targets.unordered, guide)
    np.testing.assert_allclose(loss, expected, rtol=1e-9)


def test_a_guide_survives_pickling(trained, key):
    guide, result = trained
    copy, params = pickle.loads(pickle.dumps((guide, result.params)))
    np.testing.assert_array_equal(
        copy.sample_posterior(key, params)["w"], guide.sample_posterior(key, result.params)["w"]
    )


# --- refusals -------------------------------------------------------------------------------------


def test_a_guide_is_not_trained_on_other_data_than_it_was_made_for(trained, key):
    guide, result = trained
    svi = SVI(targets.regression, guide, nb.bridge_optimizer(), nb.TraceReverseKLLD(8))
    svi.init(key, X, y=Y)
    for args, y in (((X,), Y + 1), ((X[:3],), Y[:3])):
        with pytest.raises(ValueError, match="made for other data, those of its first call"):
            svi.init(key, *args, y=y)
        with pytest.raises(ValueError, match="made for other data"):
            svi.loss.loss(key, result.params, targets.regression, guide, *args, y=y)
    # Inside compiled code only shapes are known.
    with pytest.raises(ValueError, match="made for other data"):
        svi.run(key, 1, X[:3], y=Y[:3], progress_bar=False)


def test_wrong_settings_of_a_guide_are_named(trained):
    guide, result = trained
    with pytest.raises(ValueError, match="levels from 0 to 1, such as 0.05, got"):
        guide.quantiles(result.params, [5, 95])
    with pytest.raises(ValueError, match="standardise takes no argument 'begins'"):
        nb.AutoBridge(targets.regression, standardise=partial(nb.standardise, begins=3))
    with pytest.raises(ValueError, match="num_particles must be a whole number >= 1.*got 0"):
        nb.TraceReverseKLLD(0)
    other = guide_of(positive, standardise=nb.no_standardisation)
    seen(other)
    with pytest.raises(ValueError, match="has 2 dimensions and this guide's model 1"):
        other.params_from(guide.to_posterior(result.params))


def mixture(y):
    share = numpyro.sample("share", dist.Beta(1, 1))
    with numpyro.plate("n", len(y)):
        kind = numpyro.sample("kind", dist.Bernoulli(share), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(2.0 * kind, 1.0), obs=y)


def subsampled(y):
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    with numpyro.plate("n", len(y), subsample_size=2):
        numpyro.sample("y", dist.Normal(mean, 1), obs=numpyro.subsample(y, event_dim=0))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (mixture, r"discrete latent sites.*nb.BridgeSampler\(model\), which sums them out"),
        (subsampled, "Plate 'n' takes a subsample of 2 of its 6.*Remove `subsample_size`"),
    ],
)
def test_models_without_one_density_of_continuous_sites_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        seen(guide_of(model, standardise=nb.no_standardisation), Y)


def test_an_sde_guide_is_refused_by_neutra(trained):
    guide, result = trained
    with pytest.raises(ValueError, match=r"no NeuTraReparam.*MCMC\(nb.BridgeKernel"):
        NeuTraReparam(guide, result.params)


def test_what_does_not_go_together_is_refused(trained, key, as_users):
    guide, result = trained
    model, optimizer = targets.regression, nb.bridge_optimizer()

    def run(guide, loss, model=model):
        return SVI(model, guide, optimizer, loss).run(key, 1, X, y=Y, progress_bar=False)

    with pytest.raises(TypeError, match="process=nb.objectives.with_log_evidence.nb.CMCD"):
        run(guide, nb.TraceObjective(nb.trajectory_balance, 4))
    with pytest.raises(TypeError, match=r"nb.AutoBridge\(model\), but it was given AutoNormal"):
        run(AutoNormal(model), nb.TraceReverseKLLD(4))
    with pytest.raises(ValueError, match="whose model is another function"):
        run(guide, nb.TraceLogVariance(4), handlers.block(model, hide_fn=lambda site: False))
    with pytest.raises(ValueError, match="objective must be a function or class"):
        nb.TraceObjective("log_variance")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="init_scale must be a positive number"):
        guide_of(init_scale=0.0)
    with pytest.raises(ValueError, match="another prefix"):
        guide_of(prefix="other").bridge(result.params)


def test_a_guide_must_be_called_once_outside_compiled_code_and_with_randomness(key):
    with pytest.raises(ValueError, match="has not seen its model and data yet: call svi.run"):
        guide_of().sample_posterior(key, {"auto_process": None, "auto_charts": None})
    with pytest.raises(ValueError, match=r"cannot be done inside jax.jit.*svi.init\(rng_key"):
        jax.jit(lambda key: handlers.seed(guide_of(), key)(X, y=Y))(key)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="handlers.seed.guide"):
        guide_of()(X, y=Y)


def test_trajectory_balance_trains_a_guide_that_learns_the_evidence(key):
    guide = guide_of(process=nb.objectives.with_log_evidence(CMCD, -15.0))
    loss = nb.TraceObjective(nb.trajectory_balance, 32)
    svi = SVI(guide.model, guide, nb.bridge_optimizer(), loss)
    result = svi.run(key, 100, X, y=Y, progress_bar=False)
    *_, log_evidence = targets.regression_posterior(X, Y)
    learned = result.params["auto_process"].log_evidence.value
    assert abs(learned - log_evidence) < 0.2 < abs(-15.0 - log_evidence)
