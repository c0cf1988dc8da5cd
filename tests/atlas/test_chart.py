"""The whole way to an atlas: its charts, masses and evidence, its repairs, and its doubts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas import Atlas, Exploration, StandardisedTarget, Witness, chart, explore
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.stacked import row
from tests.mixtures import atlas_of, mixture, normals_at

MASSES = [0.7, 0.3]


def two_modes(distance: float):
    """Two modes so many standard deviations apart."""
    return mixture(MASSES, [[-1.0, 1.0], [distance - 1.0, 1.0]], [1.0, 1.0])


@functools.cache
def atlas_far_apart() -> Atlas:
    target = two_modes(20.0).target
    return chart(jax.random.key(1), target, explore(jax.random.key(0), target))


def blind_to_the_second(known) -> Exploration:
    """An exploration that saw the first mode only, and is sure of itself."""
    return Exploration(
        normals=row(known.normals, slice(1)),
        log_mass=known.log_mass[:1],
        num_at_place=(100,),
        num_new=0,
        num_climbs=100,
        settled=True,
        num_gradient_evaluations=1_000,
    )


@pytest.mark.slow
def test_two_modes_far_apart_are_two_charts_with_their_masses():
    known, atlas = two_modes(20.0), atlas_far_apart()
    assert atlas.num_charts == 2 and atlas.good and atlas.num_repairs == 0
    np.testing.assert_allclose(atlas.share, MASSES, atol=0.01)
    np.testing.assert_allclose(atlas.log_mass, known.log_mass, atol=0.02)
    assert atlas.log_evidence == pytest.approx(known.log_evidence, abs=0.01)
    np.testing.assert_allclose(atlas.normals.location, known.normals.location, atol=0.05)
    assert atlas.ess > 0.9 and atlas.settled and len(atlas.uncovered) == 0
    assert atlas.witness.position is not None and atlas.doubts == ()
    assert isinstance(atlas.target(known.target, bridged=True), ChartedTarget)


def test_the_same_key_gives_the_same_atlas_and_no_witness_is_no_obstacle():
    target = two_modes(20.0).target
    exploration = explore(jax.random.key(0), target)
    first, second = (chart(jax.random.key(1), target, exploration, temper=None) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert first.witness.position is None and first.witness.reason is not None
    np.testing.assert_array_equal(first.log_mass, atlas_far_apart().log_mass)


def test_a_mode_that_exploration_missed_is_found_through_particles():
    known = two_modes(7.0)
    atlas = chart(jax.random.key(2), known.target, blind_to_the_second(known), bend=False)
    assert atlas.num_repairs >= 1 and len(atlas.uncovered) == 0 and atlas.doubts == ()
    # The added chart may overlap with others: what lies on either side is the mass of the mode.
    right = np.asarray(atlas.normals.location[:, 0] > 2.5)
    assert np.sum(atlas.share[right]) == pytest.approx(MASSES[1], abs=0.02)
    assert atlas.log_evidence == pytest.approx(known.log_evidence, abs=0.02)


def test_without_repair_a_missed_mode_is_doubted_aloud():
    known = two_modes(7.0)
    atlas = chart(jax.random.key(2), known.target, blind_to_the_second(known), max_rounds=1)
    assert atlas.num_charts == 1 and atlas.num_repairs == 0 and len(atlas.uncovered) > 0
    assert any("the sampler does not go" in doubt for doubt in atlas.doubts)
    assert isinstance(atlas.target(known.target, bridged=True), StandardisedTarget)


def test_a_mode_that_exploration_missed_is_found_by_probes_without_particles():
    known = two_modes(30.0)
    blind = blind_to_the_second(known)
    atlas = chart(jax.random.key(2), known.target, blind, temper=None, bend=False)
    assert atlas.num_charts == 2 and atlas.num_repairs == 1 and atlas.ess > 0.9
    np.testing.assert_allclose(atlas.share, MASSES, atol=0.01)
    assert atlas.log_evidence == pytest.approx(known.log_evidence, abs=0.01)
    assert atlas.num_gradient_evaluations > 10_000


def test_repairs_end_at_a_limit_and_the_atlas_says_so():
    known = two_modes(7.0)
    limited = {"temper": None, "bend": False, "max_gradient_evaluations": 1_000}
    atlas = chart(jax.random.key(2), known.target, blind_to_the_second(known), **limited)
    assert atlas.num_charts == 1 and atlas.reached_limit == 1_000
    _, note = atlas.notes
    assert "ended at the limit of 1,000 gradient evaluations" in note
    (looked,) = atlas_far_apart().notes
    assert looked.startswith("There is no prior to draw from: modes were looked for by")


# --- doubts ---------------------------------------------------------------------------------------

TWO = normals_at([[0.0, 0.0], [9.0, 9.0]], [1.0, 1.0])


@pytest.mark.fast
def test_how_closely_modes_were_looked_for_is_a_note():
    """Of what three draws in 300 lead to, 300 draws miss everything with a probability of 5 %."""
    assert not any("looked for at" in note for note in atlas_of(TWO, np.log(MASSES)).notes)
    many, _ = atlas_of(TWO, np.log(MASSES), num_prior_draws=16_448).notes
    assert "at 16,448 prior draws; one that fewer than 1 in 5,500 of them lead to may" in many
    few, _ = atlas_of(TWO, np.log(MASSES), num_prior_draws=16).notes
    assert "at no more than 16 prior draws; any but the widest may be unseen" in few
    none, _ = atlas_of(TWO, np.log(MASSES), num_prior_draws=0).notes
    assert "by 100 climbs, from near zero to about 100 away in every unconstrained" in none


@pytest.mark.fast
def test_an_atlas_without_trouble_has_no_doubts():
    assert atlas_of(TWO, np.log(MASSES)).doubts == ()
    mild = Witness(np.zeros((100, 2)), 0.5, 0.2)
    assert atlas_of(TWO, np.log(MASSES), witness=mild).doubts == ()
    unmixed = Witness(np.zeros((100, 2)), 8.0, 0.2)
    assert atlas_of(TWO, np.log(MASSES), witness=unmixed).doubts == ()


@pytest.mark.fast
def test_each_trouble_is_a_doubt():
    uncovered = np.full((25, 2), 3.0)
    witness = Witness(np.zeros((100, 2)), 8.0, 0.1)
    trouble = {"witness": witness, "uncovered": uncovered, "settled": False, "num_new": 1}
    where, evidence, once = atlas_of(TWO, np.log(MASSES), **trouble).doubts
    assert "25.0%" in where and "[3, 3]" in where
    assert "8.0 ± 0.1" in evidence
    assert "1 of the 2 places" in once


@pytest.mark.fast
def test_a_light_chart_makes_a_few_draws_all_the_same():
    base = two_modes(7.0).target
    atlas = atlas_of(TWO, np.log([1 - 1e-9, 1e-9]))
    for bridged in (True, False):
        target = atlas.target(base, bridged=bridged)
        assert isinstance(target, ChartedTarget) and target.num_charts == 2
        assert np.exp(target.log_share[1]) == pytest.approx(32 / 4_096, rel=0.01)


@pytest.mark.slow
def test_more_places_than_charts_are_named_and_nothing_is_trained(key):
    """Eighty-one modes: repairs and training would take long, and not find the others."""
    grid = 20.0 * jnp.stack(jnp.meshgrid(*[jnp.arange(9.0)] * 2), axis=-1).reshape(-1, 2)

    def log_density(x):
        return jax.nn.logsumexp(-0.5 * jnp.sum((x - grid) ** 2, axis=1))

    target = nb.target_from_log_density(log_density, 2)
    explore = functools.partial(nb.atlas.explore, max_rounds=3)  # there are eight by default
    posterior = nb.BridgeSampler(target, explore=explore, progress_bar=False).run(key)
    assert posterior.report.process == "Direct" and posterior.atlas.overflows
    assert posterior.atlas.num_charts == 64 and posterior.atlas.num_repairs == 0
    draws = posterior.sample(key, 1_000)
    assert not draws.verdict.trustworthy and "64 places or more" in draws.verdict.text
    missing = np.log(2 * np.pi * 81) - draws.log_evidence
    assert abs(missing - np.log(81 / 64)) < 0.05
