"""A bridge and NUTS on a model with normal posteriors, whose moments are known exactly."""

import dataclasses
import sys
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from numpyro.infer import MCMC, NUTS

from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.compare import Comparison, Costs, compare_with_nuts
from numpyro_bridge.compare.nuts import blackjax_nuts
from numpyro_bridge.draws import plots
from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.verdict import Verdict
from numpyro_bridge.infer import Posterior
from numpyro_bridge.processes import CMCD
from numpyro_bridge.target import target_from_log_density, target_from_model
from numpyro_bridge.training import RunReport, Seconds, TrajectoryMetrics
from tests.catalogue import narrow

SCHOOLS = ["north", "east", "south"]
ERROR = np.array([0.5, 1.0, 2.0])
DATA = np.array([1.2, -0.4, 2.5])
PRIOR_SD = 2.0
SHORT = {"num_samples": 800, "num_chains": 2, "coords": {"school": SCHOOLS}}


def effects(error, data=None):
    """Independent normal effects: the posterior is normal, and its moments are exact."""
    with numpyro.plate("school", len(error)):
        effect = numpyro.sample("effect", dist.Normal(0, PRIOR_SD))
        numpyro.deterministic("twice", 2 * effect)
        numpyro.deterministic("constant", jnp.ones(len(error)))
        numpyro.sample("score", dist.Normal(effect, error), obs=data)


def exact_moments():
    precision = 1 / PRIOR_SD**2 + 1 / ERROR**2
    return DATA / ERROR**2 / precision, precision**-0.5


def finished_nuts(model, *args, **kwargs):
    mcmc = MCMC(
        NUTS(model),
        num_warmup=150,
        num_samples=200,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(5), *args, extra_fields=("num_steps",), **kwargs)
    return mcmc


def untrained(target, mean, sd):
    """A bridge in coordinates where the target is standard normal: good without training."""
    affine = DenseMap(jnp.asarray(mean), jnp.diag(jnp.asarray(sd)))
    elbo = jnp.linspace(-9.0, -7.0, 60) + 0.1 * jnp.sin(jnp.arange(60))
    return Posterior(
        CMCD(jax.random.key(4), target.dim, num_steps=4, control=narrow(8)),
        StandardisedTarget(target, affine),
        Standardisation(affine),
        TrajectoryMetrics(
            elbo, jnp.ones(60), jnp.linspace(0.1, 0.9, 60), jnp.zeros(60), jnp.zeros(60)
        ),
        RunReport(
            "CMCD",
            num_gradient_evaluations=4_000,
            seconds=Seconds(standardise=1.5, compile=2.0, train=0.5),
        ),
    )


@pytest.fixture(scope="module")
def posterior():
    target = target_from_model(jax.random.key(0), effects, ERROR, data=DATA)
    return untrained(target, *exact_moments())


@pytest.fixture(scope="module")
def of_log_density():
    """A normal density with mean one, given as a function."""
    target = target_from_log_density(lambda x: -0.5 * jnp.sum((x - 1.0) ** 2), 2)
    return untrained(target, np.ones(2), np.ones(2))


@pytest.fixture(scope="module")
def comparison(posterior):
    settings = {"num_warmup": 200, "nuts_samples": 400, "log_likelihood": True, **SHORT}
    with pytest.MonkeyPatch.context() as patch:
        # NumPyro hides its bar where it sees these, and then compiles twice.
        patch.delenv("CI", raising=False)
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)
        return compare_with_nuts(posterior, jax.random.key(1), **settings)


@pytest.fixture(scope="module")
def nuts_run():
    return finished_nuts(effects, ERROR, data=DATA)


def test_table_has_a_row_for_every_parameter_that_varies(comparison):
    labels = [f"{site}[{name}]" for site in ("effect", "twice") for name in SCHOOLS]
    assert list(comparison.table.index) == labels


@pytest.mark.parametrize("side", ["bridge", "nuts"])
def test_both_samplers_find_the_exact_moments(comparison, side):
    table = comparison.table.loc[[f"effect[{name}]" for name in SCHOOLS]]
    mean, sd = exact_moments()
    error = sd / np.sqrt(table[f"{side}_ess"])
    assert np.all(np.abs(table[f"{side}_mean"] - mean) < 4 * error)
    # The relative standard error of a normal sample's sd is 1 / sqrt(2 n).
    assert np.all(np.abs(table[f"{side}_sd"] / sd - 1) < 4 / np.sqrt(2 * table[f"{side}_ess"]))


def test_differences_are_in_the_units_they_say(comparison):
    table = comparison.table
    difference = table["bridge_mean"].to_numpy() - table["nuts_mean"].to_numpy()
    np.testing.assert_allclose(table["difference"], difference / table["nuts_sd"])
    with np.errstate(all="ignore"):  # of the constant site
        sides = (comparison.bridge, comparison.nuts)
        errors = [az.mcse(side, method="mean")["effect"].values for side in sides]
    np.testing.assert_allclose(table["z"].to_numpy()[:3], difference[:3] / np.hypot(*errors))
    assert np.all(np.abs(table["z"]) < 4)


def test_diagnostics_are_those_of_arviz(comparison):
    for name, side in (("bridge", comparison.bridge), ("nuts", comparison.nuts)):
        with np.errstate(all="ignore"):  # of the constant site
            diagnostics: dict[str, Any] = {"ess": az.ess(side), "r_hat": az.rhat(side)}
        for column, values in diagnostics.items():
            ours = comparison.table[f"{name}_{column}"][:3]
            np.testing.assert_allclose(ours, values["effect"].values)


def test_wasserstein_distance_of_shifted_draws_is_the_shift(comparison, posterior):
    """It is at least the difference of the means, and close to it where only these differ."""
    table = comparison.table
    assert np.all(table["wasserstein"] >= np.abs(table["difference"]) - 1e-9)
    assert np.all(table["wasserstein"] < np.abs(table["difference"]) + 0.25)


def test_costs_add_up(comparison, posterior):
    costs = comparison.costs
    assert list(costs.index) == [row.name for row in Costs().rows()]
    assert list(costs) == ["bridge", "nuts"]
    seconds = [row for row in costs.index if row.endswith("_seconds") and row != "total_seconds"]
    np.testing.assert_allclose(costs.loc["total_seconds"], costs.loc[seconds].sum())
    assert np.isnan(costs.loc["standardise_seconds", "nuts"])
    assert (costs.loc["compile_seconds"] > 0).all()
    steps_per_draw = posterior.process.num_steps + 1
    assert costs.loc["gradients_drawing", "bridge"] == 1_000 * steps_per_draw  # one whole batch
    assert costs.loc["gradients_before", "bridge"] == posterior.report.num_gradient_evaluations
    sampling_steps = comparison.nuts["sample_stats"]["n_steps"].values.sum()
    assert costs.loc["gradients_drawing", "nuts"] == sampling_steps
    assert costs.loc["gradients_before", "nuts"] >= 2 * 200  # a step or more in each warm-up step
    assert costs.loc["min_ess_bulk", "nuts"] == comparison.table["nuts_ess"].min()
    np.testing.assert_allclose(
        costs.loc["ess_per_second"], costs.loc["min_ess_bulk"] / costs.loc["total_seconds"]
    )


def test_costs_that_are_not_known_are_not_added_up():
    known = Costs(compile_seconds=2.0, draw_seconds=0.5, min_ess_bulk=100.0)
    assert known.total_seconds == 2.5
    assert (known.ess_per_second, known.ess_per_second_drawing) == (40.0, 200.0)
    texts = {row.name: row.text for row in known.rows()}
    assert texts["total_seconds"] == "2.50" and texts["gradients_before"] == "-"
    unknown = Costs(compile_seconds=2.0, gradients_drawing=12_000, min_ess_bulk=100.0)
    assert unknown.total_seconds is None and unknown.ess_per_second is None
    assert dict((row.name, row.text) for row in unknown.rows())["gradients_drawing"] == "12,000"


def test_a_comparison_without_a_record_of_training_plots_the_rest(comparison):
    silent = dataclasses.replace(comparison.posterior, metrics=None)
    figures = dataclasses.replace(comparison, posterior=silent).plot()
    for figure in figures.values():
        pyplot.close(figure)
    assert list(figures) == ["marginals", "forest", "pairs", "weights"]


def test_arviz_objects_agree_in_their_dimensions(comparison):
    for group in ("posterior", "log_likelihood", "observed_data"):
        ours, theirs = comparison.bridge[group], comparison.nuts[group]
        assert set(ours.data_vars) == set(theirs.data_vars)
        for name in ours.data_vars:
            assert ours[name].dims == theirs[name].dims
            assert list(ours[name]["school"].values) == SCHOOLS
            assert list(theirs[name]["school"].values) == SCHOOLS


def test_print_shows_tables_evidence_and_verdict(comparison, capsys):
    comparison.print()
    text = capsys.readouterr().out
    for word in ("effect[north]", "twice[south]", "in MCSEs", "bulk ESS", "warm up", "NUTS: none"):
        assert word in text
    assert f"{comparison.draws.log_evidence:.3f} ±" in text
    assert comparison.verdict.text in text
    assert repr(comparison) == "Comparison(bridge, NUTS: 6 parameters)"


def test_what_only_draws_of_nuts_can_see_is_said(comparison):
    """One very large weight among those of the backward runs: a place the bridge never goes."""
    log_weight = jnp.zeros(500).at[0].set(20.0)
    blind = dataclasses.replace(comparison, backward=BackwardRuns(log_weight))
    assert not blind.verdict.trustworthy
    assert "draws of NUTS lie where the bridge rarely goes" in blind.verdict.text
    assert "rarely goes" not in comparison.verdict.text


def test_a_mode_that_nuts_missed_is_said(comparison):
    half = jnp.arange(comparison.draws.num_samples) % 2
    draws = dataclasses.replace(comparison.draws, chart=half)
    stuck = dataclasses.replace(comparison, draws=draws, nuts_charts=np.asarray([1.0, 0.0]))
    assert not stuck.verdict.trustworthy
    assert "NUTS: chart 2 of the 2 that the bridge found has 5" in stuck.verdict.text


def test_site_of_many_elements_is_printed_as_its_worst(comparison):
    many = comparison.table.iloc[[0] * 12].set_axis([f"b[{i}]" for i in range(12)])
    many["z"] = [*range(11), -30.0]
    lines = str(dataclasses.replace(comparison, table=many)).splitlines()
    assert [line.split("  ")[0] for line in lines if "b[" in line][0] == "b[11] (worst of 12)"
    assert sum(line.lstrip().startswith("b[") for line in lines) == 1


def test_verdict_sees_agreement_and_its_absence(comparison):
    def verdict_with(**columns) -> Verdict:
        return dataclasses.replace(comparison, table=comparison.table.assign(**columns)).verdict

    good = {"z": 2.0, "nuts_r_hat": 1.0}
    assert "means agree" in verdict_with(**good).text
    assert verdict_with(**good).trustworthy == comparison.draws.verdict.trustworthy
    differing = verdict_with(**good | {"z": [0.0, -7.5, 0, 0, 0, 0]})
    assert not differing.trustworthy
    assert "means differ: 1 of 6" in differing.text and "effect[east], by 7.5" in differing.text
    assert "not mixed" in verdict_with(**good | {"nuts_r_hat": 1.2}).text
    assert not verdict_with(z=np.nan).trustworthy


def test_finished_run_is_taken_as_it_is(posterior, nuts_run):
    result = compare_with_nuts(posterior, jax.random.key(2), mcmc=nuts_run, **SHORT)
    assert isinstance(result, Comparison)
    drawn = result.nuts["posterior"]["effect"].values
    np.testing.assert_array_equal(drawn, nuts_run.get_samples(group_by_chain=True)["effect"])
    assert result.nuts_costs.total_seconds is None is result.nuts_costs.ess_per_second
    assert np.isnan(result.costs.loc["total_seconds", "nuts"])
    steps = nuts_run.get_extra_fields()["num_steps"].sum()
    assert result.costs.loc["gradients_drawing", "nuts"] == steps
    assert np.all(np.abs(result.table["z"]) < 4)


def test_run_of_other_data_is_refused(posterior, nuts_run):
    other = MCMC(NUTS(effects), num_warmup=10, num_samples=10, progress_bar=False)
    with pytest.raises(ValueError, match="has not run yet"):
        compare_with_nuts(posterior, jax.random.key(2), mcmc=other)
    moved = nuts_run.last_state._replace(potential_energy=nuts_run.last_state.potential_energy + 1)
    other = MCMC(NUTS(effects), num_warmup=10, num_samples=200, num_chains=2)
    other.__dict__ |= nuts_run.__dict__ | {"_last_state": moved}
    with pytest.raises(ValueError, match="same model and data"):
        compare_with_nuts(posterior, jax.random.key(2), mcmc=other)


def test_run_of_other_data_is_refused_where_its_chains_ended_by_chance_as_high(posterior, nuts_run):
    other = MCMC(NUTS(effects), num_warmup=10, num_samples=200, num_chains=2)
    kwargs = {"data": nuts_run._kwargs["data"] + 0.05}
    other.__dict__ |= nuts_run.__dict__ | {"_kwargs": kwargs}
    with pytest.raises(ValueError, match="at its draws the log density"):
        compare_with_nuts(posterior, jax.random.key(2), mcmc=other)


def test_run_of_another_model_is_refused(of_log_density, nuts_run):
    with pytest.raises(ValueError, match=r"sites \{'x': \(2,\)\}.*\['x'\] are missing"):
        compare_with_nuts(of_log_density, jax.random.key(2), mcmc=nuts_run)


def test_numbers_must_be_positive(posterior):
    with pytest.raises(ValueError, match="nuts_samples"):
        compare_with_nuts(posterior, jax.random.key(2), nuts_samples=0)


def test_log_density_is_compared_too(of_log_density):
    result = compare_with_nuts(
        of_log_density,
        jax.random.key(1),
        num_samples=800,
        num_chains=1,
        num_warmup=100,
        nuts_samples=300,
        progress_bar=False,
    )
    assert list(result.table.index) == ["x[0]", "x[1]"]
    for side in ("bridge", "nuts"):
        error = 1 / np.sqrt(result.table[f"{side}_ess"])
        assert np.all(np.abs(result.table[f"{side}_mean"] - 1.0) < 4 * error)
    assert abs(result.draws.log_evidence - np.log(2 * np.pi)) < 0.1


def test_plots_are_figures_and_files(comparison, tmp_path):
    figures = comparison.plot(tmp_path / "plots")
    try:
        assert list(figures) == ["marginals", "forest", "pairs", "training", "weights"]
        for name, figure in figures.items():
            assert isinstance(figure, Figure)
            assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        titles = [panel.get_title() for panel in figures["marginals"].axes]
        assert titles == list(comparison.table.index) + [""] * (len(titles) - 6)
        title = figures["weights"].get_suptitle()
        assert f"k-hat {comparison.draws.pareto_k:.2f}" in title
        legend = [text.get_text() for text in figures["forest"].legends[0].get_texts()]
        assert legend == ["bridge", "NUTS"]
    finally:
        for figure in figures.values():
            pyplot.close(figure)


def test_plots_say_what_they_leave_out(comparison):
    figure = plots.plot_forest({"bridge": comparison.bridge}, max_parameters=2)
    pyplot.close(figure)
    assert figure.get_suptitle().endswith("(2 of 9 parameters)")
    with pytest.raises(ValueError, match=r"not: \['nothing'\]"):
        plots.plot_pairs({"bridge": comparison.bridge}, ["effect[north]", "nothing"])


def test_sites_take_turns():
    labels = ["mu", "z[0]", "z[1]", "z[2]", "tau", "L[0,0]", "L[0,1]"]
    assert plots.take_turns(labels, 4) == ["mu", "z[0]", "tau", "L[0,0]"]
    assert plots.take_turns(labels, 5) == ["mu", "z[0]", "z[1]", "tau", "L[0,0]"]
    assert plots.take_turns(labels, 99) == labels


def test_scalar_draws_are_labelled_by_coordinates(comparison):
    draws = plots.scalar_draws(comparison.bridge)
    np.testing.assert_array_equal(
        draws["effect[east]"], comparison.bridge["posterior"]["effect"].values[..., 1]
    )


def test_a_missing_blackjax_is_named(monkeypatch, posterior):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(ImportError, match="needs BlackJAX.*pip install blackjax"):
        compare_with_nuts(posterior, jax.random.key(1), nuts=blackjax_nuts, **SHORT)


def test_the_nuts_of_blackjax_can_stand_in(posterior):
    settings = {"num_warmup": 200, "nuts_samples": 400, **SHORT}
    comparison = compare_with_nuts(posterior, jax.random.key(1), nuts=blackjax_nuts, **settings)
    mean, sd = exact_moments()
    rows = [f"effect[{name}]" for name in SCHOOLS]
    error = comparison.table["nuts_sd"][rows] / np.sqrt(comparison.table["nuts_ess"][rows])
    assert np.all(np.abs(comparison.table["nuts_mean"][rows] - mean) < 4 * error)
    np.testing.assert_allclose(comparison.table["nuts_sd"][rows], sd, rtol=0.15)
    costs = comparison.costs["nuts"]
    assert costs["gradients_before"] > 200 and costs["gradients_drawing"] > 800
    stats = comparison.nuts["sample_stats"]
    assert {"diverging", "n_steps", "energy", "acceptance_rate"} <= set(stats.data_vars)
    assert comparison.nuts["posterior"].attrs.get("inference_library", "blackjax") == "blackjax"
