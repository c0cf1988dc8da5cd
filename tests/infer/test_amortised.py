"""Learning from simulations: the posterior of any data, against closed forms."""

import copy
import pickle
from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan

import numpyro_bridge as nb
from numpyro_bridge.compare.simulated_runs import Ranking, simulated_runs
from numpyro_bridge.target.data_arguments import call_without_data
from tests import targets
from tests.hill import interrupt_first_of

X, Y = targets.regression_data()
# One optimiser and one size for all, so that the training loop is compiled once.
TINY = {
    "denoiser": partial(nb.diffusion.untrained_denoiser, width=16, depth=1),
    "num_steps": 16,
    "num_iterations": 400,
    "num_draws": 128,
    "optimizer": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(4e-3)),
    "progress_bar": False,
}
NUM = 8_000


def learn(model, *args, **kwargs) -> nb.infer.AmortisedPosterior:
    sampler = nb.DiffusionSampler(model, **TINY)
    return sampler.amortise(jax.random.key(0), *args, num_simulations=NUM, **kwargs)


@pytest.fixture(scope="module")
def amortised() -> nb.infer.AmortisedPosterior:
    return learn(targets.regression, X, y=jnp.zeros(6))


@pytest.fixture(scope="module")
def posterior(amortised) -> nb.Posterior:
    return amortised.condition(X, y=Y)


def test_ctrl_c_in_the_first_training_skips_the_second(monkeypatch):
    begun = interrupt_first_of(monkeypatch)
    amortised = learn(targets.regression, X, y=jnp.zeros(6))
    assert len(begun) == 1 and amortised.report.stopped == "interrupted"
    assert amortised.metrics.num_iterations == 0 and amortised.normal_metrics.num_iterations == 25
    draws = amortised.condition(X, y=Y).sample(jax.random.key(1), num_samples=1_000)
    *_, log_evidence = targets.regression_posterior(X, Y)
    assert abs(draws.log_evidence - log_evidence) < 5 * draws.log_evidence_error + 0.1


def test_networks_travel_in_a_pickle(amortised, posterior):
    draws = posterior.sample(jax.random.key(1), num_samples=10)
    for copied in (pickle.loads(pickle.dumps(amortised)), copy.deepcopy(amortised)):
        again = copied.condition(X, y=Y).sample(jax.random.key(1), num_samples=10)
        np.testing.assert_array_equal(again.log_weight, draws.log_weight)


# --- the posterior of any data --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_posterior_and_evidence_of_any_data(amortised, seed):
    w = np.random.default_rng(seed).normal(size=2)
    y = w[0] + w[1] * X + targets.NOISE * np.random.default_rng(seed + 9).normal(size=6)
    mean, covariance, log_evidence = targets.regression_posterior(X, y)
    draws = amortised.condition(X, y=y).sample(jax.random.key(1), num_samples=2_000)
    sd = np.sqrt(np.diag(covariance))
    assert draws.ess > 0.9
    assert abs(draws.log_evidence - log_evidence) < 5 * draws.log_evidence_error + 1e-3
    np.testing.assert_allclose((np.mean(draws.position, axis=0) - mean) / sd, 0.0, atol=0.15)
    np.testing.assert_allclose(np.std(draws.position, axis=0), sd, rtol=0.1)


@pytest.mark.slow
def test_a_conditioned_posterior_is_one_like_any_other(posterior, tmp_path):
    posterior.save(tmp_path / "posterior")
    loaded = nb.load(tmp_path / "posterior", targets.regression)
    before, after = (p.sample(jax.random.key(2), num_samples=10) for p in (posterior, loaded))
    np.testing.assert_array_equal(before.log_weight, after.log_weight)
    assert posterior.predictive(jax.random.key(3), num_samples=200)["y"].shape == (200, 6)
    guide = posterior.as_guide(num_steps=2)
    w = guide.sample_posterior(jax.random.key(0), {}, sample_shape=(50,))["w"]
    mean, covariance, _ = targets.regression_posterior(X, Y)
    np.testing.assert_allclose(jnp.mean(w, axis=0), mean, atol=0.5)
    assert posterior.standardisation.fit is None


def noisier(x, y=None):
    """`regression` with twice the noise."""
    w = jnp.asarray(numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1)))
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("y", dist.Normal(w[0] + w[1] * x, 2 * targets.NOISE), obs=y)


def test_an_amortised_posterior_is_loaded_into_the_present_precision(amortised, tmp_path):
    single = jax.tree.map(
        lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, amortised.bridge
    )
    replace(amortised, bridge=single).save(tmp_path / "single")
    loaded = nb.load_amortised(tmp_path / "single", targets.regression)
    assert {x.dtype for x in jax.tree.leaves(eqx.filter(loaded.bridge, eqx.is_inexact_array))} == {
        jnp.dtype(jnp.result_type(float))
    }


def test_an_amortised_posterior_is_one_file(amortised, posterior, tmp_path):
    amortised.save(tmp_path / "amortised")
    loaded = nb.load_amortised(tmp_path / "amortised", targets.regression)
    before, after = (
        p.sample(jax.random.key(2), num_samples=10) for p in (posterior, loaded.condition(X, y=Y))
    )
    np.testing.assert_array_equal(before.log_weight, after.log_weight)
    assert loaded.report == amortised.report and repr(loaded) == repr(amortised)
    with pytest.raises(ValueError, match="holds a posterior of all data, not a posterior"):
        nb.load(tmp_path / "amortised", targets.regression)
    with pytest.raises(ValueError, match=r"the sites \{'w': \(2,\)\} and 1 numbers of the data"):
        first = lambda data: data["y"][0]  # noqa: E731
        nb.load_amortised(tmp_path / "amortised", targets.regression, summaries=first)
    with pytest.raises(ValueError, match="the log density at a fixed point is"):
        nb.load_amortised(tmp_path / "amortised", noisier)
    posterior.save(tmp_path / "posterior")
    with pytest.raises(ValueError, match="read a posterior with nb.load"):
        nb.load_amortised(tmp_path / "posterior", targets.regression)


class OwnNetwork(eqx.Module):
    """A network outside the package: zero, and whatever it is given."""

    weight: jax.Array
    of_context: jax.Array

    def __call__(self, noisy, log_snr, context):
        return self.weight @ noisy + self.of_context @ context


def own_denoiser(rng_key, dim, *, context_size=0, scale=1.0) -> nb.diffusion.Denoiser:
    weight, of_context = jnp.ones((dim, dim)), jnp.ones((dim, context_size))
    return nb.diffusion.Denoiser(OwnNetwork(scale * weight, scale * of_context))


def test_a_denoiser_that_a_user_wrote_is_saved_and_loaded(amortised, tmp_path):
    path, size = tmp_path / "amortised", amortised.bridge.scale.size
    denoiser = own_denoiser(jax.random.key(0), 2, context_size=size, scale=0.01)
    own = replace(amortised, bridge=replace(amortised.bridge, denoiser=denoiser))
    own.save(path)
    loaded = nb.load_amortised(path, targets.regression, denoiser=own_denoiser)
    before, after = (
        p.condition(X, y=Y).sample(jax.random.key(2), num_samples=10) for p in (own, loaded)
    )
    np.testing.assert_array_equal(before.log_weight, after.log_weight)
    with pytest.raises(ValueError, match="holds a OwnNetwork, .*of numpyro_bridge: pass denoiser="):
        nb.load_amortised(path, targets.regression)
    with pytest.raises(ValueError, match="denoiser.network is a OwnNetwork in the file, and a Den"):
        nb.load_amortised(path, targets.regression, denoiser=nb.diffusion.untrained_denoiser)


def test_ranks_tell_a_trained_distribution_from_a_narrow_one(amortised):
    settings = {"num_simulations": 200, "num_draws": 39}
    trained = amortised.calibrate(jax.random.key(5), **settings)
    assert [*trained.parameters] == ["w[0]", "w[1]", "log joint"]
    assert trained.num_simulations == 200
    assert trained.p_value > 0.01
    assert np.median(trained.ess) > 0.9

    def log_diagonal(bridge):
        return bridge.normal.output_layer.bias

    twice = log_diagonal(amortised.bridge).at[2:4].add(jnp.log(2.0))
    narrow = eqx.tree_at(log_diagonal, amortised.bridge, twice)
    calibration = replace(amortised, bridge=narrow).calibrate(jax.random.key(5), **settings)
    assert max(calibration.p_values.values()) < 1e-3


def test_corrected_draws_are_calibrated_where_uncorrected_ones_are_not(amortised):
    def mean(bridge):
        return bridge.normal.output_layer.bias

    shifted = eqx.tree_at(mean, amortised.bridge, mean(amortised.bridge).at[:2].add(0.3))
    settings = {"num_simulations": 200, "num_draws": 39}
    shifted = replace(amortised, bridge=shifted)
    assert shifted.calibrate(jax.random.key(6), **settings).p_value < 1e-3
    assert shifted.calibrate(jax.random.key(6), correction="psis", **settings).p_value > 0.01


def test_the_calibration_of_any_sampler_takes_networks_too(amortised):
    call = call_without_data(targets.regression, (X,), {})
    runs = simulated_runs(jax.random.key(5), amortised, call, 20, Ranking(1_000, 39))
    found = runs.run(0)
    assert not found.failure and found.weighted and found.ess > 0.9
    assert found.ranks is not None and found.ranks["w"].shape == (2,)


def heavy_tailed(y):
    """Prior predictive without moments."""
    tau = numpyro.sample("tau", dist.HalfCauchy(1))
    mu = numpyro.sample("mu", dist.Cauchy(0, 1))
    with numpyro.plate("n", 6):
        numpyro.sample("y", dist.Normal(mu, tau), obs=y)


@pytest.mark.slow
def test_heavy_tails_of_the_prior_predictive_leave_training_finite():
    amortised = learn(heavy_tailed, jnp.zeros(6))
    for metrics in (amortised.metrics, amortised.normal_metrics):
        assert np.all(np.isfinite(metrics.loss))
    assert amortised.report.num_skipped_updates == 0
    posterior = amortised.condition(jnp.asarray([0.5, 1.0, -0.3, 0.2, 0.9, 1.4]))
    draws = posterior.sample(jax.random.key(1), num_samples=2_000)
    assert draws.ess > 0.2 and draws.pareto_k < 0.7


# --- doubts and refusals --------------------------------------------------------------------------


def test_unfamiliar_data_and_covariates_are_reported(amortised):
    with pytest.warns(nb.ReliabilityWarning, match="1 of the 6 numbers .* lie beyond"):
        amortised.condition(X, y=np.r_[Y[:5], 1e3])
    with pytest.warns(nb.ReliabilityWarning, match="covariates or settings differ"):
        amortised.condition(X + 0.5, y=Y)


def no_data(y=None):
    numpyro.sample("mu", dist.Normal(0, 1))


def with_factor(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.factor("more", -(mu**2))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def with_scale(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with handlers.scale(scale=0.5):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def improper(y):
    mu = numpyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def in_scan(y):
    def step(level, value):
        level = numpyro.sample("level", dist.Normal(level, 1))
        numpyro.sample("y", dist.Normal(level, 0.1), obs=value)
        return level, None

    scan(step, 0.0, y)


class Unsampled(dist.Normal):
    def sample(self, key, sample_shape=()):
        raise NotImplementedError


def without_sampler(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", Unsampled(mu, 1), obs=y)


def other_shape(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def needs_numbers(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1).expand([int(y.max())]).to_event(1))
    numpyro.sample("y", dist.Normal(jnp.sum(mu), 1).expand([3]).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (no_data, "no observed site"),
        (with_factor, "'more' is a numpyro.factor"),
        (with_scale, "'y' is scaled"),
        (improper, r"improper prior of \['mu'\]"),
        (in_scan, "'y' lies inside a scan"),
        (without_sampler, "a density but no sampler"),
        (other_shape, r"simulated with shape \(\), but the data given for it have shape \(3,\)"),
        (needs_numbers, "needs the numbers of its data"),
    ],
)
def test_models_that_cannot_simulate_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        learn(model, np.asarray([1.0, 2.0, 1.0]))


def test_errors_say_what_to_write_instead(amortised):
    with pytest.raises(ValueError, match=r"data of shapes {'y': \(6,\)}, and these have {'y'"):
        amortised.condition(X[:5], y=Y[:5])
    with pytest.raises(ValueError, match="num_draws must be a whole number >= 20"):
        amortised.calibrate(jax.random.key(0), num_draws=5)
    with pytest.raises(ValueError, match=r"by nb.DiffusionSampler\(model\)"):
        nb.DiffusionSampler(targets.skewed().target).amortise(jax.random.key(0))
    with pytest.raises(ValueError, match="num_simulations must be a whole number >= 100.*got 5"):
        nb.DiffusionSampler(targets.regression).amortise(
            jax.random.key(0), X, y=Y, num_simulations=5
        )
    unconditional = nb.DiffusionSampler(
        targets.regression,
        denoiser=lambda rng_key, dim: nb.diffusion.untrained_denoiser(rng_key, dim),
    )
    with pytest.raises(ValueError, match=r"should take \(rng_key, dim, context_size"):
        unconditional.amortise(jax.random.key(0), X, y=Y, num_simulations=100)


def test_a_seeded_model_is_refused():
    """It would make the same simulation every time."""
    seeded = handlers.seed(targets.regression, 0)
    with pytest.raises(ValueError, match="pass the model without handlers.seed around it"):
        nb.DiffusionSampler(seeded, progress_bar=False).amortise(
            jax.random.key(0), X, y=Y, num_simulations=100
        )
