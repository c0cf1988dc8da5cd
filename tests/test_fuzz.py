"""Twenty random models: their density is NumPyro's, and what cannot be sampled is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats

from benchmarks import fuzz, fuzz_checks, fuzz_parts, rows
from benchmarks.fuzz_model import FAULTS, TWISTS
from benchmarks.fuzz_models import NUM_RECIPES, dim_of, fuzz_of, recipe_of
from benchmarks.fuzz_reference import _by_nuts, _on_grid, _weighted, independent
from numpyro_bridge.target import target_from_model

pytestmark = pytest.mark.usefixtures("as_users")

SAMPLED = (3, 13, 14, 25, 27, 34, 35, 42, 44, 49, 51, 52, 53, 59, 60)
REFUSED = (0, 24, 64, 72, 80)

ALIKE = (3, 3 + NUM_RECIPES, 3 + 4 * NUM_RECIPES, 3 + 7 * NUM_RECIPES)
"""Of one recipe, so that one program serves them all; in one dimension."""


# --- twenty numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SAMPLED)
def test_the_density_is_that_of_numpyro(number):
    row = fuzz.measure(fuzz.Case(number, "density"), fuzz_checks.density)
    assert (row["outcome"], row["why"]) == ("agrees", "")


@pytest.mark.parametrize("number", REFUSED)
def test_what_cannot_be_sampled_is_refused_for_its_reason(number):
    fault = recipe_of(number).fault
    row = fuzz.measure(fuzz.Case(number, "density"), fuzz_checks.density)
    assert row["outcome"] == "refused" and FAULTS[fault] in row["why"]


@pytest.mark.slow
@pytest.mark.parametrize("number", ALIKE)
def test_the_defaults_agree_with_a_grid(number):
    row = fuzz.measure(fuzz.Case(number, "sampler"), fuzz_checks.sampler)
    assert (row["outcome"], row["method"], row["why"]) == ("agrees", "grid", "")


# --- what is drawn --------------------------------------------------------------------------------


def test_every_part_of_a_model_is_drawn_and_dimensions_are_few():
    recipes = [recipe_of(number) for number in range(NUM_RECIPES)]
    assert len(set(recipes)) == NUM_RECIPES
    assert {prior for recipe in recipes for prior in recipe.priors} == set(fuzz_parts.PRIORS)
    assert {recipe.likelihood for recipe in recipes} >= set(fuzz_parts.LIKELIHOODS)
    assert {twist for recipe in recipes for twist in recipe.twists} == set(TWISTS)
    assert {recipe.fault for recipe in recipes} == {"", *FAULTS}
    assert {dim_of(recipe) for recipe in recipes} == set(range(1, 7))


def test_a_number_always_has_the_same_model_and_others_have_other_data():
    first, again, other = (fuzz_of(number) for number in (ALIKE[0], ALIKE[0], ALIKE[1]))
    assert first.recipe == again.recipe == other.recipe
    np.testing.assert_array_equal(first.kwargs["seen"], again.kwargs["seen"])
    assert np.all(first.kwargs["seen"] != other.kwargs["seen"])


# --- outcomes -------------------------------------------------------------------------------------


def test_what_another_library_raises_is_a_crash():
    def fails(_):
        raise ValueError("of somebody else")

    found = fuzz_checks.check(fuzz_of(3), fails)
    assert (found.outcome, found.why) == ("crash", "ValueError: of somebody else")


def test_a_refusal_is_wrong_where_the_model_is_not_and_missing_where_it_is():
    refused = fuzz_of(REFUSED[0])
    as_if_whole = refused._replace(recipe=fuzz_of(3).recipe)
    assert fuzz_checks.check(as_if_whole, fuzz_checks.density).outcome == "wrongly refused"
    accepts = fuzz_checks.check(refused, lambda _: fuzz_checks.Outcome("agrees"))
    assert accepts.outcome == "wrongly accepted"


def normal(y):
    loc = numpyro.sample("loc", dist.Normal(jnp.zeros(len(y)), 2.0).to_event(1))
    numpyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=y)


def test_another_density_is_seen():
    target = target_from_model(jax.random.key(0), normal, np.zeros(2))
    same = independent(normal, (np.zeros(2),), {})
    other = independent(normal, (np.full(2, 1e-3),), {})
    assert [*fuzz_checks._differences(target, same, 1e-9)] == []
    wrong = " ".join(fuzz_checks._differences(target, other, 1e-9))
    assert "log density off by" in wrong and "score off by" in wrong
    longer = independent(normal, (np.zeros(3),), {})
    assert "sites" in next(fuzz_checks._differences(target, longer, 1e-9))


def test_evidence_and_moments_beyond_their_tolerance_are_wrong():
    answer = _on_grid(independent(normal, (np.ones(1),), {}))
    found = fuzz_checks.Outcome(
        "", evidence_off=0.05, log_evidence_error=0.01, mean_off=0.09, sd_off=0.0
    )
    assert [*fuzz_checks._what_is_wrong(found, answer)] == []
    worse = found._replace(evidence_off=-0.07, mean_off=0.11, sd_off=np.nan)
    assert len([*fuzz_checks._what_is_wrong(worse, answer)]) == 3


# --- references -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "dim", "within"), [(_on_grid, 1, 1e-6), (_on_grid, 2, 1e-6), (_weighted, 3, 0.01)]
)
def test_a_reference_is_the_closed_form(method, dim, within):
    y = np.array([0.3, -4.0, 9.0])[:dim]
    found = method(independent(normal, (y,), {}))
    expected = scipy.stats.norm(0, np.sqrt(5)).logpdf(y).sum()
    np.testing.assert_allclose(found.log_evidence, expected, atol=within)
    np.testing.assert_allclose(found.moments["loc"].mean, 0.8 * y, atol=within)
    np.testing.assert_allclose(found.moments["loc"].sd, np.sqrt(0.8), atol=within)
    assert np.all(found.moments["loc"].is_checked)


def test_chains_give_moments_only():
    y = np.array([2.0])
    found = _by_nuts(independent(normal, (y,), {}))
    assert found.log_evidence is None
    np.testing.assert_allclose(found.moments["loc"].mean, 0.8 * y, atol=0.1)


def test_a_grid_gives_nothing_where_there_is_no_integral():
    def endless():
        numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))

    assert _on_grid(independent(endless, (), {})) is None


# --- rows and page --------------------------------------------------------------------------------


def test_rows_are_kept_and_the_page_counts_them(tmp_path):
    output = tmp_path / "fuzz.csv"
    cases = [fuzz.Case(number, "density") for number in (REFUSED[0], REFUSED[1])]
    for case in cases[:1]:
        rows.append(output, fuzz.measure(case, fuzz_checks.density))
    assert rows.missing(cases, output) == cases[1:]
    crash = fuzz.measure(cases[1], lambda _: 1 / 0)
    rows.append(output, crash)
    fuzz.write_page(output.with_suffix(".md"), rows.read(output), 500)
    page = output.with_suffix(".md").read_text()
    assert "`density`: 2 of 500 run" in page
    assert "| refused | 1 | 0 |" in page and "| crash | 1 | 0 |" in page
    assert "crash: ZeroDivisionError: division by zero" in page
