"""The map that bends: exactly invertible, exact in its determinant, and taken where it helps."""

import functools
import importlib
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas.coupling import FARTHEST, MOST_SKEW, REACH, Coupling, CouplingMap
from numpyro_bridge.atlas.fit_coupling import (
    STEERING_SHARES,
    BentMap,
    _Bent,
    _loss,
    fit_coupling,
    frames_of,
    numbers_of_leading,
    steering,
)
from numpyro_bridge.atlas.fit_normal import gaussian_vi
from numpyro_bridge.atlas.maps import DenseMap, lower_factor
from numpyro_bridge.atlas.radial import Radial
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, log_weights_of
from numpyro_bridge.trajectories.ends import draw_end, draw_path_to
from tests import targets
from tests.catalogue import narrow
from tests.statistics import assert_mean_at_most, assert_same_mean


@eqx.filter_jit
def compiled(function, *arguments):
    """The value of a method, as one compiled program instead of one for each operation."""
    return function(*arguments)


# --- the map --------------------------------------------------------------------------------------


def random_map(dim: int = 5, lead: int = 2) -> CouplingMap:
    """A map that bends a lot, in all its parts."""
    keys = jax.random.split(jax.random.key(0), 5)
    coupling = Coupling(keys[0], dim, lead)
    leaves, structure = jax.tree.flatten(coupling)
    spread = [0.4 * jax.random.normal(keys[1], (999,))[: leaf.size] for leaf in leaves]
    leaves = [leaf + noise.reshape(leaf.shape) for leaf, noise in zip(leaves, spread, strict=True)]
    rotation, _ = jnp.linalg.qr(jax.random.normal(keys[2], (dim, dim)))
    factor = lower_factor(jax.random.normal(keys[3], (dim, dim + 2)))
    affine = DenseMap(jax.random.normal(keys[4], (dim,)), factor)
    spread_out = jax.tree.unflatten(structure, leaves)
    spread_out = eqx.tree_at(lambda c: c.leading, spread_out, coupling.leading)
    spread_out = eqx.tree_at(
        lambda c: c.shape.heaviness, spread_out, replace_fn=lambda h: 0.1 * jnp.abs(h)
    )
    return CouplingMap(affine, rotation, spread_out, Radial(jnp.asarray(0.1)))


@pytest.mark.parametrize(
    ("dim", "lead"), [(5, 2), pytest.param(2, 1, marks=pytest.mark.fast), (1, 1), (3, 3)]
)
def test_the_coupling_is_invertible_and_has_its_determinant(dim, lead):
    @eqx.filter_jit
    def seen(map, noise):
        return map.inverse(map(noise)), jax.jacobian(map)(noise), map.log_det(noise)

    for size in (0.0, 0.1, 1.0, 4.0):
        noise = size * jax.random.normal(jax.random.key(1), (dim,))
        back, jacobian, log_det = seen(random_map(dim, lead), noise)
        np.testing.assert_allclose(back, noise, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-9)


def test_a_new_coupling_changes_nothing():
    noise = 3 * jax.random.normal(jax.random.key(1), (4,))
    coupling = Coupling(jax.random.key(0), 4, 1)
    np.testing.assert_allclose(compiled(coupling, noise), noise, rtol=1e-12)
    np.testing.assert_allclose(compiled(coupling.inverse, noise), noise, rtol=1e-12)
    np.testing.assert_allclose(compiled(coupling.log_det, noise), 0, atol=1e-12)


def test_tails_are_the_powers_that_the_shape_says():
    shape = random_map().coupling.shape
    shape = eqx.tree_at(lambda s: (s.tail, s.skew), shape, (jnp.full(5, 9.0), jnp.full(5, 0.5)))
    for sign in (1.0, -1.0):
        near, far = (jnp.abs(compiled(shape, jnp.full(5, sign * x))) for x in (1e3, 1e4))
        power = 2 * (1 + sign * MOST_SKEW * np.tanh(0.5))
        np.testing.assert_allclose(jnp.log10(far / near), power, rtol=0.02)


def test_a_far_state_meets_no_exponential():
    """Beyond its reach the map grows like a power, so that stray states cannot overflow it."""
    with jax.enable_x64(False):
        map = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_map())
        direction = jnp.ones(5)
        for size in (1e2, 1e4):
            position, log_det = compiled(lambda x: (map(x), map.log_det(x)), size * direction)
            assert jnp.all(jnp.isfinite(position)) and jnp.isfinite(log_det)
        heavy = nb.target_from_log_density(lambda x: -jnp.sum(jnp.log1p(x**2)), 5)
        seen = StandardisedTarget(heavy, map)
        for size in (1e4, 4e5, 2e6, 1e20, jnp.inf):
            point = compiled(seen.at, size * direction)
            assert jnp.isfinite(point.log_density) and jnp.all(jnp.isfinite(point.score))
            assert jnp.isfinite(compiled(seen.log_density, size * direction))
            assert point.finite or size > FARTHEST
    steered = random_map().coupling._steered
    far, further = (compiled(steered, jnp.full(5, size * REACH)) for size in (4.0, 400.0))
    for a, b in zip(far, further, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_a_target_seen_through_a_coupling_is_the_same_distribution():
    target = StandardisedTarget(targets.funnel().target, random_map())
    position = jax.random.normal(jax.random.key(3), (5,))
    point = compiled(target.at, position)
    density, score = compiled(jax.value_and_grad(target.log_density), position)
    np.testing.assert_allclose(point.log_density, density, rtol=1e-12)
    np.testing.assert_allclose(point.score, score, rtol=1e-9)
    back = compiled(lambda x: target.joined(target.by_site(x)), position)
    np.testing.assert_allclose(back, position, rtol=1e-7)
    with_prior = StandardisedTarget(targets.conjugate_normal().target, random_map(2, 1))
    with_prior = with_prior.with_prior()
    prior = compiled(with_prior.at, position[:2]).prior
    assert prior is not None
    of_prior = jax.grad(lambda x: with_prior.at(x).prior.log_density)
    expected = compiled(of_prior, position[:2])
    np.testing.assert_allclose(prior.score, expected, rtol=1e-9)


def test_what_is_not_finite_stays_replaced():
    target = nb.target_from_log_density(lambda x: jnp.where(x[0] > 0, -x[0], jnp.nan), 1)
    seen = StandardisedTarget(target, random_map(1, 1))
    outside = compiled(seen.map.inverse, jnp.asarray([-1.0]))
    point = compiled(seen.at, outside)
    assert not point.finite and point.log_density < -1e9
    np.testing.assert_array_equal(point.score, [0.0])


def test_the_weights_of_an_untrained_bridge_stay_exact():
    """The mean weight is the evidence, and ends are in the model's coordinates."""
    known = targets.conjugate_normal()
    # Near the posterior, but bent.
    draws = known.draw(jax.random.key(2), 10_000)
    affine = DenseMap(jnp.mean(draws, axis=0), 1.2 * jnp.linalg.cholesky(jnp.cov(draws.T)))
    map = random_map(2, 1)
    tamed = jax.tree.map(lambda leaf: 0.3 * leaf, map.coupling)
    bent = CouplingMap(affine, map.rotation, tamed, map.radial)
    target = StandardisedTarget(known.target, bent)
    process = nb.CMCD(jax.random.key(0), 2, num_steps=4, control=narrow(8), diffusion=0.4)
    keys = jax.random.split(jax.random.key(1), 8_000)
    ends = compiled(jax.vmap(partial(draw_end, process=process, target=target)), keys)
    assert_same_mean(jnp.exp(ends.log_weight - known.log_evidence), 1.0)
    assert_mean_at_most(ends.log_weight, known.log_evidence)
    np.testing.assert_allclose(
        ends.log_density,
        compiled(jax.vmap(known.target.log_density), ends.position),
        rtol=1e-8,
    )
    back = jax.vmap(draw_path_to, in_axes=(0, None, None, 0))
    paths = compiled(back, keys[:4_000], process, target, draws[:4_000])
    assert_same_mean(jnp.exp(known.log_evidence - paths.log_weight), 1.0)


# --- the fit --------------------------------------------------------------------------------------


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
    bent = _Bent(jnp.ones(5), map.rotation + jnp.eye(5), tamed, map.radial)
    target = nb.target_from_log_density(lambda x: -jnp.sum(jnp.log(jnp.cosh(x) + x[0] ** 2)), 5)
    noise = jax.random.normal(jax.random.key(3), (7, 5))

    def by_the_inverse(bent):
        held = jax.lax.stop_gradient(bent)

        def log_weight(noise):
            position = bent(noise)
            inner = jnp.linalg.solve(held.factor, position - held.location)
            noise = held.radial.inverse(held.coupling.inverse(inner))
            return target.log_density(position) + 0.5 * noise @ noise + held.log_det(noise)

        return -jnp.mean(jax.vmap(log_weight)(noise))

    expected = compiled(jax.grad(by_the_inverse), bent)
    got = compiled(jax.grad(lambda bent: _loss(bent, target, noise)), bent)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


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


def test_an_update_that_is_not_finite_is_left_out(monkeypatch):
    """About every second batch has a gradient that is not a number; the others are learned from."""
    module = importlib.import_module("numpyro_bridge.atlas.fit_coupling")

    def broken(bent, target, noise):
        return _loss(bent, target, noise) * jnp.where(noise[0, 0] > 0, jnp.nan, 1.0)

    monkeypatch.setattr(module, "_loss", broken)
    standardised = StandardisedTarget(targets.power_of_funnel(1.0), AT_ORIGIN)
    start = module._straight(jax.random.key(0), 2, jnp.asarray(1))
    fit = eqx.filter_jit(lambda *arguments: module._fitted_uncompiled(*arguments))
    bent = fit(jax.random.key(1), standardised, jnp.eye(2), start, jnp.asarray(20))
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(bent))
    assert jnp.any(bent.location != 0)


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
