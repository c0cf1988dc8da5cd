"""A denoiser on every chart, where draws fall into groups that lie apart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas import ChartedTarget, StandardisedTarget
from tests import targets
from tests.compilations import listed_compilations
from tests.hill import interrupt_first_of
from tests.infer.trained import assert_same_draws
from tests.mixtures import mixture
from tests.statistics import assert_same_weighted_mean

TINY = {
    "denoiser": partial(nb.diffusion.untrained_denoiser, width=16, depth=1),
    "num_steps": 16,
    "num_iterations": 150,
    "num_draws": 64,
    "progress_bar": False,
}
MASS = 0.7
PLACES, SCALES = [[6.0, 0.0], [-6.0, 2.0]], [0.4, 1.2]
KNOWN = mixture([MASS, 1 - MASS], PLACES, SCALES)


def two_modes():
    """The same mixture as a NumPyro model, whose log evidence is zero."""
    parts = dist.Normal(jnp.asarray(PLACES), jnp.asarray(SCALES)[:, None]).to_event(1)
    shares = dist.Categorical(jnp.asarray([MASS, 1 - MASS]))
    numpyro.sample("x", dist.MixtureSameFamily(shares, parts))


@pytest.fixture(scope="module")
def exact_draws():
    return KNOWN.draw(jax.random.key(5), 1_500)


@pytest.fixture(scope="module")
def posterior(exact_draws) -> nb.Posterior:
    sampler = nb.DiffusionSampler(two_modes, **TINY)
    return sampler.run(jax.random.key(0), draws={"x": exact_draws})


@pytest.fixture(scope="module")
def draws(posterior) -> nb.Draws:
    return posterior.sample(jax.random.key(1), num_samples=4_000)


@pytest.fixture(scope="module")
def wrong_masses(exact_draws):
    """What is learned of the density from draws in wrong proportions, and what was compiled."""
    upper = np.asarray(exact_draws[:, 0]) > 0
    wrong = np.concatenate([exact_draws[upper][:700], np.tile(exact_draws[~upper], (2, 1))[:800]])
    # No other test trains on batches of this size, so that all programs are compiled here.
    sampler = nb.DiffusionSampler(KNOWN.target, **(TINY | {"num_draws": 48}))
    with listed_compilations() as compiled:
        posterior = sampler.run(jax.random.key(0), draws=wrong)
    return posterior, compiled


def assert_known(draws: nb.Draws) -> None:
    """Evidence, masses and moments of the mixture, by z-scores."""
    assert abs(draws.log_evidence) < 5 * draws.log_evidence_error + 1e-3
    assert draws.elbo < 3 * draws.elbo_error
    mass, error = draws.chart_masses
    assert np.all(np.abs(mass - [MASS, 1 - MASS]) < 5 * error + 1e-3)
    for chart, (place, scale) in enumerate(zip(PLACES, SCALES, strict=True)):
        on_chart = np.asarray(draws.chart) == chart
        position, log_weight = draws.position[on_chart], draws.log_weight[on_chart]
        assert_same_weighted_mean(position[:, 0], log_weight, place[0])
        assert_same_weighted_mean((position[:, 1] - place[1]) ** 2, log_weight, scale**2)


@pytest.mark.slow
def test_two_modes_get_a_chart_and_a_denoiser_each(posterior, draws):
    assert isinstance(posterior.target, ChartedTarget) and posterior.target.num_charts == 2
    assert_known(draws)
    assert draws.ess > 0.95 and draws.verdict.trustworthy
    assert posterior.report.num_iterations == 2 * TINY["num_iterations"]
    # Scores of both pieces at all draws, and a pilot run of each chart.
    assert posterior.report.num_gradient_evaluations == 2 * 1_500 + 2 * 1_000


def test_ctrl_c_on_the_first_chart_leaves_the_others_untrained(monkeypatch, exact_draws):
    begun = interrupt_first_of(monkeypatch)
    sampler = nb.DiffusionSampler(two_modes, **TINY)
    posterior = sampler.run(jax.random.key(0), draws={"x": exact_draws})
    assert len(begun) == 1 and posterior.target.num_charts == 2
    assert posterior.report.stopped == "interrupted" and posterior.report.num_iterations == 25
    assert_known(posterior.sample(jax.random.key(1), num_samples=4_000))


def test_one_compiled_program_serves_all_charts(wrong_masses):
    """What differs from chart to chart are numbers alone."""
    _, compiled = wrong_masses
    names = ("_run_chunk", "_evaluated", "_weighted_draws")
    counts = {name: sum(name in one for one in compiled) for name in names}
    # One for each name, for this target's density, however many charts there are.
    assert set(counts.values()) == {1}, counts


def test_draws_with_wrong_masses_give_the_right_ones(wrong_masses):
    """As chains do that each stay in one mode: the weights know better."""
    posterior, _ = wrong_masses
    share = np.exp(np.asarray(posterior.target.log_share)[:2])
    np.testing.assert_allclose(np.sort(share), [1 - MASS, MASS], atol=0.02)
    draws = posterior.sample(jax.random.key(1), num_samples=4_000)
    assert draws.ess > 0.9
    assert_same_weighted_mean(draws.position[:, 0] > 0, draws.log_weight, MASS)


def test_a_learned_posterior_on_charts_is_a_file(posterior, tmp_path):
    posterior.save(tmp_path / "posterior")
    loaded = nb.load(tmp_path / "posterior", two_modes)
    assert loaded.report == posterior.report
    key = jax.random.key(2)
    assert_same_draws(loaded.sample(key, 20), posterior.sample(key, 20))


def test_summary_and_arviz_tell_the_charts_apart(draws, capsys):
    draws.print_summary()
    assert "charts        2, with masses 0.7" in capsys.readouterr().out
    idata = nb.to_inference_data(draws, prior=False, predictive=False)
    chart = np.asarray(idata["sample_stats"]["chart"])
    x = np.asarray(idata["posterior"]["x"])
    assert set(np.unique(chart)) == {0, 1}
    assert np.all((x[..., 0] > 0) == (chart == 0))
    assert abs(np.mean(chart == 0) - MASS) < 0.05


def test_given_draws_bound_the_evidence_from_above(posterior, exact_draws):
    backward = posterior.run_backward(jax.random.key(3), {"x": exact_draws})
    assert backward.eubo > -5 * backward.eubo_error and backward.ess > 0.9


def test_several_charts_have_no_single_flow(posterior):
    for door in (posterior.as_distribution, posterior.as_guide):
        with pytest.raises(
            ValueError, match=r"on 2 charts, .*nb\.DiffusionSampler\(model, max_charts=1\)"
        ):
            door()


@pytest.mark.usefixtures("wrong_masses")  # which compiles first, since it counts
def test_one_map_where_one_is_asked_for(exact_draws):
    sampler = nb.DiffusionSampler(KNOWN.target, max_charts=1, **(TINY | {"num_iterations": 2}))
    posterior = sampler.run(jax.random.key(0), draws=exact_draws)
    assert isinstance(posterior.target, StandardisedTarget)
    assert posterior.as_distribution().event_shape == (2,)
    with pytest.raises(ValueError, match="max_charts must be a whole number >= 1"):
        nb.DiffusionSampler(KNOWN.target, max_charts=0)


@pytest.mark.slow
def test_a_skewed_posterior_has_one_chart_as_if_nobody_had_looked_for_more():
    known = targets.skewed()
    given = known.draw(jax.random.key(3), 1_000)
    settings = TINY | {"num_iterations": 20}
    runs = [
        nb.DiffusionSampler(known.target, max_charts=most, **settings).run(
            jax.random.key(4), draws=given
        )
        for most in (1, 8)
    ]
    assert all(isinstance(run.target, StandardisedTarget) for run in runs)
    one, many = (run.sample(jax.random.key(5), num_samples=50) for run in runs)
    assert_same_draws(one, many)


@pytest.mark.slow
@pytest.mark.usefixtures("wrong_masses")  # as above
def test_the_log_joint_alone_is_enough_for_modes_far_apart(capsys):
    """Particles that start wide would lose the heavy mode: exploration finds it."""
    settings = {"num_particles": 1_000, "max_rounds": 2, "progress_bar": True}
    sampler = nb.DiffusionSampler(KNOWN.target, **(TINY | settings))
    posterior = sampler.run(jax.random.key(4))
    assert "chart 1, round 1: ESS" in capsys.readouterr().out
    assert_known(posterior.sample(jax.random.key(5), num_samples=4_000))
    rounds = posterior.report.rounds
    assert sorted({one.chart for one in rounds}) == [0, 1] and len(rounds) <= 4
    share = np.exp(np.asarray(posterior.target.log_share)[:2])
    np.testing.assert_allclose(share, [MASS, 1 - MASS], atol=0.02)
