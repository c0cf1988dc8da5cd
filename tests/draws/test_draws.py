"""Draws of a Gaussian posterior that is known exactly, from a proposal that is not quite it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import multivariate_normal
from numpyro.distributions import constraints

from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.verdict import ReliabilityWarning
from numpyro_bridge.target import target_from_log_density, target_from_model
from tests import targets

DATA = np.array([1.2, -0.4, 0.9, 2.5])


def schools(data):
    mean = numpyro.sample("mean", dist.Normal(0, 2))
    with numpyro.plate("school", len(data)):
        effect = numpyro.sample("effect", dist.Normal(mean, 1))
        numpyro.deterministic("twice", 2 * effect)
        numpyro.sample("score", dist.Normal(effect, 0.5), obs=data)


def draws_near(target, rng_key, num=4000, shift=0.3, widen=1.3, **fields):
    """Importance draws from the posterior, moved by `shift` and `widen` posterior deviations."""
    mean, covariance = targets.normal_posterior(target)
    root = jnp.linalg.cholesky(covariance)
    centre = mean + shift * jnp.diag(root)
    noise = jax.random.normal(rng_key, (num, target.dim))
    position = centre + widen * noise @ root.T
    log_density = targets.each(target.log_density, position)
    log_proposal = multivariate_normal.logpdf(position, centre, widen**2 * covariance)
    sites = targets.each(target.constrain, position)
    return Draws(sites, log_density - log_proposal, position, log_density, target, **fields)


def weighted(log_weight, **fields):
    """Draws of which only the weights matter."""
    target = target_from_log_density(lambda x: -0.5 * x @ x, 2)
    position = jax.random.normal(jax.random.key(9), (log_weight.shape[0], 2))
    return Draws(
        targets.each(target.constrain, position),
        log_weight,
        position,
        targets.each(target.log_density, position),
        target,
        **fields,
    )


def pareto(k, num=4000):
    return weighted(-k * jnp.log(jax.random.uniform(jax.random.key(5), (num,), minval=1e-300)))


@pytest.fixture(scope="module")
def target():
    return target_from_model(jax.random.key(0), schools, DATA)


@pytest.fixture(scope="module")
def draws(target):
    return draws_near(target, jax.random.key(1))


def test_evidence_and_elbo_are_those_of_the_model(draws):
    marginal = 4 * np.ones((4, 4)) + (1 + 0.25) * np.eye(4)
    log_evidence = multivariate_normal.logpdf(DATA, np.zeros(4), marginal)
    assert abs(draws.log_evidence - log_evidence) < 4 * draws.log_evidence_error
    assert 0 < draws.log_evidence_error < 0.05
    # The KL divergence between Gaussians: five dimensions, one deviation shifted and all widened.
    gap = 0.5 * 5 * (1.3**2 - 1 - 2 * np.log(1.3))
    mean, covariance = targets.normal_posterior(draws.target)
    root = jnp.linalg.cholesky(covariance)
    gap += 0.5 * jnp.sum(jnp.linalg.solve(root, 0.3 * jnp.diag(root)) ** 2)
    assert abs(draws.elbo - (log_evidence - gap)) < 4 * draws.elbo_error
    assert draws.elbo < draws.log_evidence


def test_diagnostics_are_plain_floats(draws):
    names = ("elbo", "elbo_error", "log_evidence", "log_evidence_error", "ess", "pareto_k")
    assert all(type(getattr(draws, name)) is float for name in names)
    assert 0 < draws.ess < 1 and draws.pareto_k < 0.7


def test_resampled_draws_are_the_posterior_s(draws):
    got = draws.resample(jax.random.key(2), 4000)
    assert {name: value.shape for name, value in got.items()} == {
        "mean": (4000,),
        "effect": (4000, 4),
        "twice": (4000, 4),
    }
    np.testing.assert_array_equal(got["twice"], 2 * got["effect"])
    mean, covariance = targets.normal_posterior(draws.target)
    position = targets.each(draws.target.unconstrain, got)
    error = jnp.sqrt(jnp.diag(covariance) / (4000 * draws.ess))
    assert jnp.all(jnp.abs(position.mean(0) - mean) < 4 * error)
    assert jnp.any(jnp.abs(draws.position.mean(0) - mean) > 8 * error)  # the proposals are not
    np.testing.assert_allclose(position.var(0), jnp.diag(covariance), rtol=0.15)


def test_resampled_draws_come_in_random_order(draws):
    got = draws.resample(jax.random.key(3), 4000)["mean"]
    centred = got - got.mean()
    assert abs(jnp.sum(centred[1:] * centred[:-1]) / jnp.sum(centred**2)) < 4 / 4000**0.5


def rows_of(text):
    """The numbers of the printed table by label."""
    lines = [line.split() for line in text.splitlines()]
    return {
        line[0]: np.array(line[1:], float)
        for line in lines
        if len(line) == 6 and line[1][-1].isdigit() and line[0] != "ESS"
    }


def test_summary_is_that_of_the_posterior_not_of_the_proposals(draws, capsys):
    draws.print_summary(prob=0.8)
    text = capsys.readouterr().out
    rows = rows_of(text)
    assert set(rows) == {
        "mean",
        *(f"{site}[{i}]" for site in ("effect", "twice") for i in range(4)),
    }
    assert text.split()[:5] == ["mean", "std", "median", "10.0%", "90.0%"]
    mean, covariance = targets.normal_posterior(draws.target)
    order = list(draws.target.sites)
    assert order == ["effect", "mean"]
    m, sd = float(mean[4]), float(covariance[4, 4]) ** 0.5
    z90 = 1.2815515655446004
    expected = [m, sd, m, m - z90 * sd, m + z90 * sd]
    np.testing.assert_allclose(rows["mean"], expected, atol=5 * sd / (4000 * draws.ess) ** 0.5)
    np.testing.assert_allclose(rows["twice[2]"], 2 * rows["effect[2]"], atol=0.0151)
    assert f"log evidence  {draws.log_evidence:.3f}" in text
    assert draws.verdict.text in text


def test_summary_of_equal_weights_is_the_plain_one(capsys):
    draws = weighted(jnp.zeros(999))
    draws.print_summary(prob=0.9)
    row = rows_of(capsys.readouterr().out)["x[1]"]
    x = np.asarray(draws.sites["x"][:, 1])
    plain = [x.mean(), x.std(), *np.quantile(x, [0.5, 0.05, 0.95], method="hazen")]
    np.testing.assert_allclose(row, plain, atol=0.00501)


def test_summary_takes_integers_and_empty_sites(capsys):
    draws = weighted(jnp.zeros(100))
    sites = {"count": jnp.arange(100) % 2, "flag": jnp.ones(100, bool), "none": jnp.zeros((100, 0))}
    dataclasses.replace(draws, sites=sites).print_summary()
    rows = rows_of(capsys.readouterr().out)
    assert set(rows) == {"count", "flag"}
    np.testing.assert_allclose(rows["count"], [0.5, 0.5, 0.5, 0, 1], atol=0.5)
    np.testing.assert_array_equal(rows["flag"], [1, 0, 1, 1, 1])


@pytest.mark.parametrize("prob", [0.0, 1.0, 90.0])
def test_summary_refuses_an_impossible_probability_mass(draws, prob):
    with pytest.raises(ValueError, match="between 0 and 1"):
        draws.print_summary(prob=prob)


# --- the verdict ----------------------------------------------------------------------------------


def test_good_draws_are_trustworthy(draws):
    assert draws.verdict.trustworthy
    assert draws.verdict.text.startswith("Trustworthy: k-hat")
    equal = weighted(jnp.full(500, 3.0))
    assert equal.verdict.trustworthy and equal.pareto_k == -np.inf and equal.ess == 1.0
    assert "without a tail" in equal.verdict.text


def test_a_fairly_heavy_tail_asks_for_care():
    draws = pareto(0.6, 20_000)
    assert 0.5 < draws.pareto_k < 0.7
    assert not draws.verdict.trustworthy
    assert draws.verdict.text.startswith("Use with care. The weights have a fairly heavy tail")
    draws.print_summary()  # and no warning


def test_a_heavy_tail_is_not_to_be_trusted_and_warns():
    draws = pareto(1.2)
    assert not draws.verdict.trustworthy
    with pytest.warns(ReliabilityWarning, match=r"^Not to be trusted\. The weights have a heavy"):
        draws.print_summary()


def test_a_few_draws_with_a_heavy_tail_should_be_more_first():
    few, many = pareto(1.2, 1_000), pareto(1.2, 20_000)
    assert few.weights_are_useless and "Draw 4,000 first" in few.verdict.text
    assert many.weights_are_useless and "Draw 4,000 first" not in many.verdict.text


def test_draws_that_are_worth_few_ask_for_care():
    draws = weighted(jnp.zeros(80))
    assert draws.verdict == (
        False,
        "Use with care. The 80 draws are worth about 80 independent ones; draw more.",
    )


def test_too_few_draws_to_judge_ask_for_care():
    draws = weighted(jnp.linspace(0, 3, 10))
    assert draws.verdict.text.startswith("Use with care. 10 draws are too few")
    draws.print_summary()  # and no warning


def test_what_the_weights_cannot_see_is_said_and_warned_about():
    note = "No draw visits the mode near x = 3."
    draws = weighted(jnp.zeros(500), warnings=(note,))
    assert draws.verdict == (False, f"Use with care. {note}")
    with pytest.warns(ReliabilityWarning, match="mode near x = 3"):
        draws.print_summary()


def test_replaced_densities_are_mentioned_and_many_of_them_ask_for_care():
    few = weighted(jnp.zeros(1000), num_non_finite=3)
    assert few.verdict.trustworthy and "3 of 1000 trajectories" in few.verdict.text
    many = weighted(jnp.zeros(1000), num_non_finite=300)
    assert not many.verdict.trustworthy and "300 of 1000" in many.verdict.text


@pytest.mark.parametrize(
    ("log_weight", "count"),
    [(jnp.zeros(50).at[3].set(jnp.nan), 1), (jnp.full(50, -jnp.inf), 50)],
)
def test_weights_that_are_no_numbers_are_not_to_be_trusted(log_weight, count):
    draws = weighted(log_weight)
    assert draws.pareto_k == np.inf
    assert draws.verdict.text.startswith(f"Not to be trusted. {count} of 50 log weights")
    with pytest.warns(ReliabilityWarning), pytest.raises(ValueError, match="log_weight should"):
        draws.print_summary()
    with pytest.raises(ValueError, match="log_weight should"):
        draws.resample(jax.random.key(0), 10)


# --- evidence that does not exist -----------------------------------------------------------------


def test_an_improper_prior_has_no_evidence_and_the_summary_says_why(capsys):
    def model(data):
        slope = numpyro.sample("slope", dist.ImproperUniform(constraints.real, (), ()))
        numpyro.sample("score", dist.Normal(slope, 1).expand([4]).to_event(1), obs=data)

    target = target_from_model(jax.random.key(0), model, DATA)
    draws = draws_near(target, jax.random.key(1), num=500)
    assert np.isnan(draws.log_evidence) and np.isnan(draws.log_evidence_error)
    assert np.isfinite(draws.elbo)
    draws.print_summary()
    assert "not defined: the prior is improper at slope" in capsys.readouterr().out


# --- the object -----------------------------------------------------------------------------------


def test_draws_are_frozen_and_describe_themselves(draws):
    with pytest.raises(dataclasses.FrozenInstanceError):
        draws.num_non_finite = 3
    assert repr(draws) == "Draws(num_samples=4000, sites: effect[4], mean, twice[4])"


def test_sites_must_belong_to_the_weights(draws):
    with pytest.raises(ValueError, match="leading axis of 4000"):
        dataclasses.replace(draws, sites={"mean": draws.sites["mean"][:7]})


def test_no_draws_at_all_are_refused():
    with pytest.raises(ValueError, match="at least one draw"):
        weighted(jnp.zeros(0))


def test_float32_draws_have_the_same_diagnostics(draws):
    single = dataclasses.replace(draws, log_weight=draws.log_weight.astype(jnp.float32))
    for name in ("elbo", "log_evidence", "log_evidence_error", "ess"):
        np.testing.assert_allclose(getattr(single, name), getattr(draws, name), rtol=1e-3)
    assert abs(single.pareto_k - draws.pareto_k) < 0.01
