"""Evidences side by side: the analytic Bayes factor, another algorithm's, and what is refused."""

import math

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import multivariate_normal

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.compare.models import _probabilities
from numpyro_bridge.draws.draws import Draws
from tests import targets
from tests.as_users import without_type_checks
from tests.catalogue import narrow
from tests.posteriors import X, Y, posterior_of


def constant(x, y=None):
    """No slope: the intercept alone."""
    intercept = numpyro.sample("intercept", dist.Normal(0, 1))
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("y", dist.Normal(intercept, targets.NOISE), obs=y)


def nothing_observed():
    numpyro.sample("intercept", dist.Normal(0, 1))


def robust(x, y=None):
    """Heavy-tailed noise: no closed form."""
    intercept, slope = (numpyro.sample(name, dist.Normal(0, 1)) for name in ("intercept", "slope"))
    with numpyro.plate("n", x.shape[0]):
        noise = dist.StudentT(4.0, intercept + slope * x, targets.NOISE)
        numpyro.sample("y", noise, obs=y)


def posterior_near(model, num_steps=4) -> nb.Posterior:
    """An untrained bridge in coordinates where a normal posterior is nearly standard."""
    target = nb.target_from_model(jax.random.key(0), model, X, y=Y)
    mean, covariance = targets.normal_posterior(target)
    affine = DenseMap(mean, 0.9 * jnp.linalg.cholesky(covariance))
    process = nb.CMCD(jax.random.key(1), target.dim, num_steps=num_steps, control=narrow(8))
    return posterior_of(target, process, affine)


@pytest.fixture(scope="module")
def models():
    return {"line": posterior_near(targets.regression), "constant": posterior_near(constant)}


@pytest.fixture(scope="module")
def comparison(models):
    return nb.compare_models(models, prior={"line": 1.0, "constant": 3.0})


def exact_log_evidences() -> list[float]:
    *_, line = targets.regression_posterior(X, Y)
    covariance = jnp.asarray(targets.NOISE**2 * np.eye(6) + 1.0)
    return [line, float(multivariate_normal.logpdf(jnp.asarray(Y), jnp.zeros(6), covariance))]


def smc_log_evidence(target: nb.target.ModelTarget, num_particles: int) -> float:
    """Adaptive tempering with Hamiltonian moves."""
    smc = blackjax.adaptive_tempered_smc(
        target.log_prior,
        target.log_likelihood,
        blackjax.hmc.build_kernel(),
        blackjax.hmc.init,
        {
            "step_size": jnp.asarray([0.4]),
            "inverse_mass_matrix": jnp.ones((1, target.dim)),
            "num_integration_steps": jnp.asarray([4]),
        },
        blackjax.smc.resampling.systematic,
        target_ess=0.8,
        num_mcmc_steps=3,
    )
    state = smc.init(target.prior_positions(jax.random.key(1), num_particles))
    step = jax.jit(smc.step)
    total, rng_key = 0.0, jax.random.key(2)
    while float(state.tempering_param) < 1:
        rng_key, step_key = jax.random.split(rng_key)
        state, info = step(step_key, state)
        total += float(info.log_likelihood_increment)
    return total


def draws_of(log_weight, **fields) -> Draws:
    """Draws of which the weights alone matter."""
    log_weight = jnp.asarray(log_weight)
    position = jnp.zeros((len(log_weight), 1))
    target = fields.pop("target", nb.target_from_log_density(lambda x: -0.5 * x @ x, 1))
    return Draws({"x": position}, log_weight, position, log_weight, target, **fields)


def test_bayes_factor_and_probabilities_are_the_analytic_ones(comparison):
    line, constant = exact_log_evidences()
    factor, error = comparison.log_bayes_factor("line", "constant")
    assert error < 0.05 and abs(factor - (line - constant)) < 4 * error
    exact = 1 / (1 + 3 * math.exp(constant - line))
    spread = comparison.probability_error[0]
    assert comparison.probability[0] == pytest.approx(exact, abs=4 * spread)
    # For two models the odds alone vary, and their error is that of the Bayes factor.
    share = comparison.probability[0]
    assert comparison.probability_error[0] == pytest.approx(share * (1 - share) * error)
    np.testing.assert_allclose(np.sum(comparison.probability), 1.0)
    np.testing.assert_allclose(comparison.prior, [0.25, 0.75])
    assert comparison.warnings == ()


@pytest.mark.fast
def test_errors_of_probabilities_are_those_of_repeated_evidences():
    rng = np.random.default_rng(0)
    log_evidence, error = np.asarray([0.0, 0.7, -1.0]), np.asarray([0.05, 0.02, 0.1])
    draws = {
        name: draws_of(np.log(rng.lognormal(value, 0.3, 4_000)))
        for name, value in zip("abc", log_evidence, strict=True)
    }
    comparison = nb.compare_models(draws)
    assert comparison.best == "b"
    noisy = log_evidence + error * rng.normal(size=(100_000, 3))
    shares = np.exp(noisy) / np.sum(np.exp(noisy), axis=1, keepdims=True)
    _, spread = _probabilities(log_evidence, error)
    np.testing.assert_allclose(spread, np.std(shares, axis=0), rtol=0.03)


def test_the_table_is_printed_with_the_best_first(comparison, capsys):
    comparison.print()
    lines = capsys.readouterr().out.strip().splitlines()
    best, other = comparison.table.index
    assert lines[1].startswith(best) and lines[2].startswith(other)
    assert f"{comparison.table.probability.iloc[0]:.3f} ± " in lines[1]
    assert repr(comparison) == "ModelComparison(line, constant)"


def test_a_bayes_factor_agrees_with_tempered_smc(models):
    """BlackJAX moves particles from the prior to the posterior, and adds up the increments."""
    pair = {"line": models["line"], "robust": posterior_near(robust)}
    factor, error = nb.compare_models(pair).log_bayes_factor("line", "robust")
    line, heavy = (smc_log_evidence(p.target.base, num_particles=4_000) for p in pair.values())
    *_, exact = targets.regression_posterior(X, Y)
    assert abs(line - exact) < 0.1
    assert error < 0.05 and abs(factor - (line - heavy)) < 0.1


def test_it_is_said_which_evidences_are_not_to_be_trusted(models):
    def improper(x, y=None):
        intercept = numpyro.sample("level", dist.ImproperUniform(dist.constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(intercept, targets.NOISE), obs=y)

    target = nb.target_from_model(jax.random.key(0), improper, X, y=Y)
    without = draws_of(np.zeros(100), target=target)
    heavy = draws_of(np.random.default_rng(1).standard_cauchy(1_000).clip(-50, 50))
    fair = draws_of(np.random.default_rng(2).normal(size=1_000))
    with pytest.warns(nb.ReliabilityWarning) as caught:
        comparison = nb.compare_models({"improper": without, "heavy": heavy, "fair": fair})
    texts = [str(warning.message) for warning in caught]
    assert "improper: there is no evidence, since the prior of level is improper" in texts[0]
    assert "heavy: the evidence, and the probabilities with it, may be wrong by more" in texts[1]
    *unseen, first, second = comparison.warnings[:4]
    assert (first, second) == tuple(texts) and all("no observed site" in text for text in unseen)
    assert np.isnan(comparison.probability[0]) and "not defined" in str(comparison)
    np.testing.assert_allclose(np.sum(comparison.probability[1:]), 1.0)


def test_what_cannot_be_compared_is_refused(models):
    with without_type_checks():
        with pytest.raises(ValueError, match="a should be a trained posterior or draws"):
            nb.compare_models({"a": constant, "b": constant})  # pyright: ignore
    with pytest.raises(ValueError, match="give two models or more by name"):
        nb.compare_models({"line": models["line"]})
    for prior in ({"line": 1.0}, {"line": 1.0, "constant": 0.0}):
        with pytest.raises(
            ValueError, match="each of .'line', 'constant'|'constant'. must be a positive"
        ):
            nb.compare_models(models, prior=prior)
    target = nb.target_from_model(jax.random.key(0), constant, X, y=Y + 1)
    other = draws_of(np.zeros(100), target=target)
    with pytest.raises(ValueError, match="line and constant observe different data, 6 and 6"):
        nb.compare_models({"line": models["line"], "constant": other}, num_samples=100)
    turned = nb.target_from_model(jax.random.key(0), constant, X, y=Y[::-1])
    with pytest.raises(ValueError, match="different data, 6 and 6 .* in the same order"):
        nb.compare_models(
            {"line": models["line"], "turned": draws_of(np.zeros(100), target=turned)}
        )
    without = nb.target_from_model(jax.random.key(0), nothing_observed)
    with pytest.raises(ValueError, match="prior observes no data, and line does"):
        nb.compare_models(
            {"line": models["line"], "prior": draws_of(np.zeros(100), target=without)}
        )
    unseen = nb.compare_models({"line": models["line"], "density": draws_of(np.zeros(100))})
    assert "density: it has no observed site" in str(unseen)
    comparison = nb.compare_models({"a": draws_of(np.zeros(100)), "b": draws_of(np.ones(100))})
    with pytest.raises(ValueError, match=r"no model 'c'; the models are \['a', 'b'\]"):
        comparison.log_bayes_factor("a", "c")
