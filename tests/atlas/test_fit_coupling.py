"""How a map that bends is fitted: which directions steer, and that it is taken where it helps."""

import functools
import importlib
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas.coupling import Coupling, CouplingMap
from numpyro_bridge.atlas.divergence import Bent, Noise, draw_noise, loss, pull_of
from numpyro_bridge.atlas.fit_coupling import (
    BentMap,
    _finalists,
    _Trial,
    fit_coupling,
)
from numpyro_bridge.atlas.fit_normal import gaussian_vi
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.radial import Radial
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, log_weights_of
from numpyro_bridge.atlas.steering import (
    STEERING_SHARES,
    Frame,
    frames_of,
    numbers_of_leading,
    steering,
)
from tests import targets
from tests.bent_maps import compiled, random_map
from tests.catalogue import narrow
from tests.statistics import assert_mean_at_most, assert_same_mean


@functools.cache
def found_by_default() -> nb.atlas.Standardisation:
    """The default on a funnel."""
    return nb.standardise(jax.random.key(0), targets.funnel().target, candidates=(gaussian_vi,))


@pytest.mark.slow
def test_a_funnel_is_straightened():
    known, result = targets.funnel(), found_by_default()
    assert result.fit.method == "coupling" and isinstance(result.map, CouplingMap)
    assert result.fit.candidates["gaussian_vi"] < known.log_evidence - 0.3
    assert result.fit.elbo == result.fit.candidates["coupling"]
    noise = jax.random.normal(jax.random.key(9), (10_000, 5))
    log_weight = log_weights_of(result.map, known.target, noise)
    assert_mean_at_most(log_weight, known.log_evidence)
    assert jnp.mean(log_weight) > known.log_evidence - 0.05
    # Exact draws are standard normal in its coordinates, the neck included.
    inside = compiled(jax.vmap(result.map.inverse), known.draw(jax.random.key(1), 20_000))
    np.testing.assert_allclose(jnp.cov(inside.T), np.eye(5), atol=0.15)
    affine = nb.standardise(
        jax.random.key(0), known.target, candidates=(gaussian_vi,), nonlinear=False
    )
    assert affine.fit.method == "gaussian_vi"
    assert affine.num_gradient_evaluations < result.num_gradient_evaluations


def test_the_direction_that_steers_is_found_in_any_coordinates():
    rotation, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(4), (6, 6)))
    funnel = targets.funnel(6).target
    turned = nb.target_from_log_density(lambda x: funnel.log_density(rotation @ x), 6)
    same = StandardisedTarget(turned, DenseMap(jnp.zeros(6), 0.7 * jnp.eye(6)))
    strength, directions, *_ = steering(jax.random.key(0), same)
    assert numbers_of_leading(np.asarray(strength), STEERING_SHARES)[0] == 1
    assert abs(float((rotation @ directions)[0, 0])) > 0.98
    np.testing.assert_allclose(directions.T @ directions, np.eye(6), atol=1e-9)


def test_nothing_steers_a_normal_distribution():
    known = targets.normal(np.zeros(3), np.eye(3))
    found = steering(
        jax.random.key(0), StandardisedTarget(known.target, DenseMap(jnp.zeros(3), jnp.eye(3)))
    )
    np.testing.assert_allclose(found.strength, 0, atol=1e-20)
    np.testing.assert_allclose(found.leading, 0, atol=1e-20)
    result = nb.standardise(jax.random.key(0), known.target, candidates=(gaussian_vi,))
    assert "coupling" not in result.fit.candidates


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        ([5.0, 4.0] + 6 * [0.5], [2]),
        ([5.0] + 7 * [1.4], [1, 4]),
        ([2.6, 1.1, 0.9, 0.7, 0.6, 0.0], [1, 3]),
        ([2.0] * 6, [3]),  # no more than half of them
        ([2.0] * 20, [10]),
        ([2.0] * 200, [64]),
        ([0.0] * 8, [1]),
        ([3.0], [1]),
    ],
)
def test_directions_not_much_weaker_than_the_strongest_steer_too(strength, expected):
    assert numbers_of_leading(np.asarray(strength), STEERING_SHARES) == expected


def scales_of_their_own(num: int):
    """Each of `num` coordinates has a scale of its own, which is another coordinate."""

    def log_density(x):
        scale, value = jnp.split(x, 2)
        return -0.5 * jnp.sum(scale**2 + (value * jnp.exp(-scale)) ** 2) - jnp.sum(scale)

    return nb.target_from_log_density(log_density, 2 * num)


@pytest.mark.slow
def test_coordinates_steer_where_no_direction_stands_out():
    target = scales_of_their_own(6)
    affine = DenseMap(jnp.zeros(12), jnp.diag(jnp.repeat(jnp.asarray([0.8, 1.2]), 6)))
    found = steering(jax.random.key(0), StandardisedTarget(target, affine))
    _, by_coordinate = frames_of(found)
    assert [frame.num_leading for frame in by_coordinate] == [6]
    assert set(np.argmax(by_coordinate[0].directions[:, :6], axis=0)) == set(range(6))
    bent, _ = fit_coupling(jax.random.key(1), target, affine)
    log_weight = log_weights_of(bent, target, jax.random.normal(jax.random.key(2), (10_000, 12)))
    log_evidence = 6 * np.log(2 * np.pi)
    assert_mean_at_most(log_weight, log_evidence)
    assert jnp.mean(log_weight) > log_evidence - 0.03


def test_the_gradient_of_the_fit_is_that_through_the_draws_alone():
    """It is compared with one that needs the inverse map (Roeder et al. 2017)."""
    map = random_map()
    tamed = jax.tree.map(lambda leaf: 0.3 * leaf, map.coupling)
    tamed = eqx.tree_at(lambda one: one.leading, tamed, map.coupling.leading)
    bent = Bent(jnp.ones(5), map.rotation + jnp.eye(5), tamed, map.radial)
    target = nb.target_from_log_density(lambda x: -jnp.sum(jnp.log(jnp.cosh(x) + x[0] ** 2)), 5)
    noise = jax.random.normal(jax.random.key(3), (7, 5))

    def by_the_inverse(bent, covering):
        held = jax.lax.stop_gradient(bent)

        def log_weight(noise):
            position = bent(noise)
            inner = jnp.linalg.solve(held.factor, position - held.location)
            noise = held.radial.inverse(held.coupling.inverse(inner))
            return target.log_density(position) + 0.5 * noise @ noise + held.log_det(noise)

        log_weights = jax.vmap(log_weight)(noise)
        pull = jnp.where(covering, jax.lax.stop_gradient(pull_of(log_weights)), 1.0)
        return -jnp.mean(pull * log_weights)

    def by_the_fit(bent, covering):
        return loss(bent, target, Noise(noise, jnp.zeros(7)), jnp.asarray(1e300), covering)

    for covering in (jnp.asarray(False), jnp.asarray(True)):
        expected = compiled(jax.grad(by_the_inverse), bent, covering)
        got = compiled(jax.grad(by_the_fit), bent, covering)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("width", [1.0, 1.5])
def test_a_covering_fit_goes_down_the_forward_divergence(width, monkeypatch):
    """Its slope is known where the target and the map are normal, whatever the noise is."""
    monkeypatch.setattr("numpyro_bridge.atlas.divergence.LARGEST_PULL", np.inf)
    monkeypatch.setattr("numpyro_bridge.atlas.divergence.LEAST_PULL", 0.0)
    deviation, location, scale = 1.2, 0.3, 1.1
    target = nb.target_from_log_density(lambda x: -0.5 * jnp.sum((x / deviation) ** 2), 2)
    start = Coupling(jax.random.key(0), 2, 1)
    bent = Bent(jnp.full(2, location), scale * jnp.eye(2), start, Radial(jnp.asarray(0.0)))

    @jax.jit
    def slopes(key):
        def one(key):
            noise = draw_noise(key, start.leading, jnp.asarray(width))
            slope = jax.grad(loss)(bent, target, noise, jnp.asarray(1e300), jnp.asarray(True))
            return slope.location, jnp.diagonal(slope.factor)

        return jax.vmap(one)(jax.random.split(key, 200))

    by_location, by_scale = slopes(jax.random.key(1))
    spread = deviation**2 + location**2
    for coordinate in range(2):  # the first one steers
        assert_same_mean(by_location[:, coordinate], location / scale**2)
        assert_same_mean(by_scale[:, coordinate], 1 / scale - spread / scale**3)


def test_pulls_follow_the_weights_within_bounds():
    np.testing.assert_allclose(pull_of(jnp.zeros(4)), jnp.ones(4), rtol=1e-6)
    weight = jnp.ones(102).at[0].set(10.0).at[1].set(1e-30).at[2].set(0.5)
    pull, relative = pull_of(jnp.log(weight)), weight / jnp.mean(weight)
    cut = relative.at[0].set(2.0)
    np.testing.assert_allclose(pull, 0.1 + 0.9 * cut / jnp.mean(cut), rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(pull), 1.0, rtol=1e-6)


def test_no_draw_of_a_wide_fit_pulls_harder_than_others():
    """The slope of the shift is the mean of what the draws pull by."""
    map = random_map()
    bent = Bent(jnp.ones(5), jnp.eye(5), map.coupling, map.radial)
    steep = nb.target_from_log_density(lambda x: -jnp.sum(jnp.exp(x**2)), 5)
    noise = Noise(jax.random.normal(jax.random.key(3), (7, 5)), jnp.zeros(7))

    @jax.jit
    def pull(longest):
        slope = jax.grad(lambda bent: loss(bent, steep, noise, longest, jnp.asarray(False)))(bent)
        return jnp.linalg.norm(slope.location)

    assert pull(jnp.asarray(1e300)) > 10.0
    assert 0.0 < pull(jnp.asarray(0.5)) < 0.5


@pytest.mark.slow
def test_two_dimensions_are_tried_from_both_ends():
    """Here the follower seems to steer more than what it follows."""
    known = targets.funnel(2)
    # The normal distribution of highest ELBO, in closed form.
    affine = DenseMap(jnp.zeros(2), jnp.diag(jnp.asarray([1.03, 0.77])))
    map, _ = fit_coupling(jax.random.key(1), targets.power_of_funnel(1.0), affine)
    log_weight = log_weights_of(map, known.target, jax.random.normal(jax.random.key(2), (9_999, 2)))
    assert_mean_at_most(log_weight, known.log_evidence)
    assert jnp.mean(log_weight) > known.log_evidence - 0.02


AT_ORIGIN = DenseMap(jnp.zeros(2), jnp.eye(2))


def test_a_flat_density_has_a_finite_map():
    flat = targets.power_of_funnel(0.0)
    map, _ = fit_coupling(jax.random.key(0), flat, AT_ORIGIN)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(map))


def test_a_coupling_that_is_no_better_is_not_taken(monkeypatch):
    def worse(rng_key, target, affine):
        map = random_map(5, 1)
        return BentMap(CouplingMap(affine, map.rotation, map.coupling, map.radial), 1_000)

    # The function of the package hides the module of the same name.
    module = importlib.import_module("numpyro_bridge.atlas.standardisation")
    monkeypatch.setattr(module, "fit_coupling", worse)
    result = nb.standardise(
        jax.random.key(0), targets.funnel().target, candidates=(gaussian_vi,), num_starts=2
    )
    assert result.fit.method == "gaussian_vi"
    assert result.fit.candidates["coupling"] < result.fit.elbo


def test_a_target_of_one_dimension_can_be_shaped():
    known = targets.skewed()
    target = nb.target_from_log_density(lambda x: 0.75 - jnp.sum(x + jnp.exp(-x)), 1)
    affine = DenseMap(jnp.full(1, 0.3), jnp.full((1, 1), 1.1))
    map, _ = fit_coupling(jax.random.key(0), target, affine)
    log_weight = log_weights_of(map, target, jax.random.normal(jax.random.key(1), (10_000, 1)))
    assert_mean_at_most(log_weight, known.log_evidence / 2)
    assert jnp.mean(log_weight) > known.log_evidence / 2 - 0.01


@pytest.mark.slow
def test_a_bent_posterior_survives_a_file(tmp_path):
    known = targets.funnel()
    sampler = nb.BridgeSampler(
        known.target,
        process=partial(nb.CMCD, num_steps=4, control=narrow(8)),
        standardise=lambda rng_key, target: found_by_default(),
        num_iterations=20,
        num_trajectories=32,
        progress_bar=False,
    )
    posterior = sampler.run(jax.random.key(0))
    posterior.save(tmp_path / "bent.nb")
    loaded = nb.load(tmp_path / "bent.nb", known.target)
    assert loaded.standardisation.fit.method == "coupling"
    ours, theirs = (p.sample(jax.random.key(1), 1_000) for p in (posterior, loaded))
    np.testing.assert_allclose(ours.position, theirs.position)
    assert ours.log_evidence == pytest.approx(known.log_evidence, abs=0.02)
    runs = posterior.run_backward(jax.random.key(2), known.draw(jax.random.key(3), 2_000))
    assert runs.eubo > known.log_evidence - 0.02


# --- which fits go on -----------------------------------------------------------------------------


NO_MAP: Any = None


def trials(*found: tuple[int, float, float]) -> list[_Trial]:
    """Trials from how many coordinates steer, the ELBO, and the gap; the best one first."""
    eye = np.eye(3)
    return [_Trial(Frame(eye, n), NO_MAP, elbo, gap) for n, elbo, gap in found]


@pytest.mark.fast
@pytest.mark.parametrize(
    "found, chosen",
    [
        ([(1, -0.1, 0.3)], [1]),
        ([(1, -0.10, 0.3), (5, -0.14, 0.9)], [1]),
        ([(9, -1.0, 0.7), (2, -1.02, 0.6), (17, -1.03, 0.6), (14, -1.06, 0.5)], [17, 14, 9]),
        ([(2, -1.0, np.inf), (3, -9.0, np.inf)], [3, 2]),
    ],
    ids=["one", "the second is worse", "ties", "nothing is known"],
)
def test_of_fits_that_are_as_good_those_with_most_steering_go_on(found, chosen):
    assert [trial.frame.num_leading for trial in _finalists(trials(*found))] == chosen
