"""A bridge and NUTS on a model with normal posteriors, whose moments are known exactly."""

import dataclasses
import sys
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from numpyro_bridge.compare import Costs, compare_with_nuts
from numpyro_bridge.compare.nuts import blackjax_nuts
from numpyro_bridge.draws import plots
from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.verdict import Verdict
from tests.effects import (
    SCHOOLS,
    SHORT,
    exact_moments,
)


@pytest.fixture(scope="module")
def comparison(posterior):
    settings = {"num_warmup": 200, "nuts_samples": 400, "log_likelihood": True, **SHORT}
    with pytest.MonkeyPatch.context() as patch:
        # NumPyro hides its bar where it sees these, and then compiles twice.
        patch.delenv("CI", raising=False)
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)
        return compare_with_nuts(posterior, jax.random.key(1), **settings)


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
