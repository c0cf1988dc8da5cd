"""A posterior on several charts, through every door: draws, files, kernels, ArviZ, comparison."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import MCMC, NUTS

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import identity_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.compare.agreement import doubts_about_nuts
from numpyro_bridge.infer.coverage import covered
from tests.infer.mirrored import SHARE, Y, exact, model
from tests.infer.trained import assert_same_draws


@pytest.fixture(scope="module")
def posterior() -> nb.Posterior:
    return nb.BridgeSampler(model, progress_bar=False).run(jax.random.key(0), y=Y)


@pytest.fixture(scope="module")
def draws(posterior) -> nb.Draws:
    return posterior.sample(jax.random.key(1), num_samples=4_000)


def test_both_modes_are_charted_and_weighed_without_training(posterior, draws):
    log_evidence, share = exact()
    assert posterior.atlas.num_charts == 2 and posterior.atlas.good
    assert posterior.report.process == "Direct" and posterior.metrics is None
    assert draws.log_evidence == pytest.approx(
        log_evidence, abs=4 * draws.log_evidence_error + 1e-3
    )
    assert draws.elbo <= log_evidence + 3 * draws.elbo_error
    mass, error = draws.chart_masses
    upper = int(np.argmax(mass))
    assert abs(mass[upper] - share) < 4 * error[upper] + 1e-3
    assert draws.verdict.trustworthy and draws.ess > 0.9
    on_upper = np.asarray(draws.chart) == upper
    assert np.all((np.asarray(draws.sites["x"])[on_upper] > 0) == (upper == np.argmax(mass)))


def test_the_summary_and_arviz_tell_the_charts_apart(draws, capsys):
    draws.print_summary()
    assert re.search(r"charts +2, with masses 0\.(69|70)\d+ ± ", capsys.readouterr().out)
    idata = nb.to_inference_data(draws, prior=False, predictive=False)
    chart = np.asarray(idata["sample_stats"]["chart"])
    x = np.asarray(idata["posterior"]["x"])
    assert set(np.unique(chart)) == {0, 1}
    assert len(np.unique(np.sign(x[chart == 0]))) == 1
    assert abs(np.mean(x > 0) - SHARE) < 0.05


def test_a_charted_posterior_survives_a_file(posterior, tmp_path):
    posterior.save(tmp_path / "file")
    loaded = nb.load(tmp_path / "file", model)
    key = jax.random.key(3)
    assert_same_draws(loaded.sample(key, 100), posterior.sample(key, 100))
    assert loaded.atlas.num_charts == 2 and loaded.atlas.num_climbs == posterior.atlas.num_climbs
    np.testing.assert_array_equal(loaded.atlas.log_mass, posterior.atlas.log_mass)


def test_draws_run_backward_agree_with_the_evidence(posterior, draws):
    runs = posterior.run_backward(jax.random.key(2), draws)
    log_evidence, _ = exact()
    assert runs.eubo >= log_evidence - 3 * runs.eubo_error
    assert runs.log_evidence == pytest.approx(log_evidence, abs=0.02)


def test_fewer_draws_than_charts_are_drawn_by_chance(posterior):
    one = posterior.sample(jax.random.key(0), num_samples=1)
    assert one.num_samples == 1 and one.num_charts == 1


@pytest.mark.slow
@pytest.mark.parametrize("local_kernel", [None, NUTS])
def test_the_kernel_jumps_between_charts(posterior, local_kernel):
    kernel = nb.BridgeKernel(posterior, local_kernel=local_kernel)
    mcmc = MCMC(
        kernel,
        num_warmup=50,
        num_samples=500,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0))
    x = np.asarray(mcmc.get_samples()["x"])
    assert abs(np.mean(x > 0) - SHARE) < 0.08
    assert abs(np.mean(np.abs(x)) - 5) < 0.02


@pytest.mark.slow
def test_a_path_metropolis_chain_jumps_between_charts(posterior):
    algorithm = nb.infer.path_metropolis(posterior)
    state = algorithm.init({"x": jnp.asarray(5.0)}, jax.random.key(0))

    def step(state, key):
        state, _ = algorithm.step(key, state)
        return state, state.position["x"]

    _, x = jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 1_000))
    assert abs(float(jnp.mean(x > 0)) - SHARE) < 0.07


@pytest.mark.slow
def test_nuts_that_lost_a_chart_is_told(posterior, draws):
    shares = posterior.chart_shares({"x": jnp.full(50, 5.0)})
    np.testing.assert_allclose(np.sort(shares), [0.0, 1.0], atol=1e-6)
    table = {"nuts_r_hat": np.asarray([1.0]), "nuts_ess": np.asarray([400.0])}
    (doubt,) = doubts_about_nuts(table, {}, shares, draws.chart_masses.mass)
    assert "it has missed a mode" in doubt
    assert not list(doubts_about_nuts(table, {}, draws.chart_masses.mass, draws.chart_masses.mass))


@pytest.mark.slow
def test_a_named_process_is_trained_on_every_chart():
    sampler = nb.BridgeSampler(
        model,
        process=lambda key, dim: nb.AnnealedLangevin(key, dim, num_steps=4),
        num_iterations=20,
        num_trajectories=32,
        progress_bar=False,
    )
    posterior = sampler.run(jax.random.key(0), y=Y)
    assert posterior.report.process == "AnnealedLangevin"
    assert posterior.report.num_iterations == 2 * 20
    draws = posterior.sample(jax.random.key(1), num_samples=2_000)
    log_evidence, _ = exact()
    assert draws.log_evidence == pytest.approx(log_evidence, abs=5 * draws.log_evidence_error)
    assert draws.elbo <= log_evidence + 3 * draws.elbo_error


def test_doubts_of_the_atlas_reach_the_verdict(posterior):
    doubtful = dataclasses.replace(posterior, doubts=("Some of it is missing.",))
    draws = doubtful.sample(jax.random.key(0), num_samples=100)
    assert not draws.verdict.trustworthy and "Some of it is missing." in draws.verdict.text


def test_particles_see_the_chart_that_a_sampler_has_lost(posterior):
    whole = covered(jax.random.key(0), posterior, posterior)
    assert whole.posterior.doubts == () and not whole.loses_mass
    one = StandardisedTarget(posterior.target.base, posterior.atlas.maps[0])
    process = nb.processes.Direct(jax.random.key(0), 1)
    lost = dataclasses.replace(posterior, process=process, target=one)
    found = covered(jax.random.key(0), lost, posterior)
    seen, compared = found.posterior.doubts
    assert "particles of an independent method lie where the sampler does not " in seen
    assert "Draws of the charts alone gave a log evidence that is higher by 0." in compared
    assert found.loses_mass
    # Nothing is compared where a process was asked for.
    assert not covered(jax.random.key(0), lost).loses_mass


def test_charts_are_plotted(draws):
    figure = nb.plots.plot_charts(draws)
    plane, masses = figure.axes
    assert len(plane.collections) == 1 and len(masses.patches) == 2
    with pytest.raises(ValueError, match="coordinates are between 0 and 0"):
        nb.plots.plot_charts(draws, coordinates=(0, 1))


def test_pairs_are_coloured_by_chart(draws):
    idata = nb.to_inference_data(draws, num_chains=2)
    figure = nb.plots.plot_pairs({"bridge": idata}, by_chart=True)
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.texts} == {"chart 0", "chart 1"}
    heights = [polygon.get_xy()[:, 1].max() for polygon in figure.axes[0].patches]
    by_share = [np.mean(idata["sample_stats"]["chart"].values == chart) for chart in (1, 0)]
    assert all(height <= share for height, share in zip(heights, by_share, strict=True))
    with pytest.raises(ValueError, match="a single ArviZ object, but there are 2"):
        nb.plots.plot_pairs({"one": idata, "other": idata}, by_chart=True)
    del idata["sample_stats"]["chart"]
    with pytest.raises(ValueError, match="'bridge' have no `chart`"):
        nb.plots.plot_pairs({"bridge": idata}, by_chart=True)


def test_what_nobody_looked_for_is_said_without_doubting_the_draws(posterior):
    key = jax.random.key(0)
    (looked,) = posterior.sample(key, num_samples=100).notes
    assert looked.startswith(
        "Modes were looked for at 32,832 prior draws; one that fewer than 1 in"
    )
    absent = dataclasses.replace(posterior.atlas.witness, position=None, reason="it is too large")
    alone = dataclasses.replace(
        posterior, atlas=dataclasses.replace(posterior.atlas, witness=absent)
    )
    verdict = alone.sample(key, num_samples=1_000).verdict
    assert verdict.trustworthy
    assert "No particles looked for what the charts may lack: it is too large." in verdict.text


def test_in_many_dimensions_it_is_said_that_nobody_looked_for_modes(posterior):
    wide = nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 301)
    target = StandardisedTarget(wide, identity_map(301))
    process = nb.processes.Direct(jax.random.key(0), 301)
    many = dataclasses.replace(posterior, process=process, target=target, atlas=None)
    verdict = many.sample(jax.random.key(1), num_samples=1_000).verdict
    assert verdict.trustworthy
    assert "Nobody looked for several modes: one map serves the whole posterior." in verdict.text
