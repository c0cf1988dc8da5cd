"""The map that bends: exactly invertible, and exact in its determinant."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas.coupling import FARTHEST, MOST_SKEW, REACH, Coupling, CouplingMap
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.trajectories.ends import draw_end, draw_path_to
from tests import targets
from tests.bent_maps import compiled, random_map
from tests.catalogue import narrow
from tests.statistics import assert_mean_at_most, assert_same_mean


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
