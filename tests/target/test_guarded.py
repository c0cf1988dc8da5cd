"""Non-finite numbers are replaced, and derivatives of what was replaced are zero."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from numpyro_bridge.atlas.maps import diagonal_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import REPLACED_LOG_DENSITY, target_from_log_density, target_from_model
from tests.target.models import EFFECTS, ERRORS, one_site, schools


def spiky(x):
    """Overflows at large x; -inf below -3; NaN slope at 0."""
    inside = -jnp.sum(jnp.exp(jnp.exp(x))) - jnp.sum(jnp.sqrt(jnp.abs(x)))
    return jnp.where(jnp.all(x > -3), inside, -jnp.inf)


GOOD, BAD = jnp.array([0.3, 1.0]), {
    "overflow": jnp.array([0.3, 1000.0]),
    "outside": jnp.array([-4.0, 1.0]),
    "slope": jnp.array([0.0, 1.0]),
    "nan": jnp.array([jnp.nan, 1.0]),
}  # fmt: skip


def test_what_is_not_finite_is_replaced():
    target = target_from_log_density(spiky, 2)
    points = jax.jit(jax.vmap(target.at))(jnp.stack([GOOD, *BAD.values()]))
    np.testing.assert_array_equal(points.finite, [True, False, False, False, False])
    replaced = np.asarray([name != "slope" for name in BAD])
    np.testing.assert_array_equal(points.log_density[1:][replaced], REPLACED_LOG_DENSITY)
    # The density is finite there and weights need no more; only the gradient is replaced.
    np.testing.assert_allclose(points.log_density[1:][~replaced], spiky(BAD["slope"]))
    np.testing.assert_array_equal(points.score[1:], 0)
    np.testing.assert_allclose(points.score[0], jax.grad(spiky)(GOOD))
    alone = target.at(BAD["overflow"])
    assert not alone.finite and alone.log_density == REPLACED_LOG_DENSITY


def test_a_map_keeps_what_is_known_of_the_density():
    """Also where its gradient is not finite: replaced, its mass would be missing in the weights."""
    base = target_from_log_density(spiky, 2)
    target = StandardisedTarget(base, diagonal_map(jnp.zeros(2), jnp.ones(2)))
    positions = jnp.stack([GOOD, *BAD.values()])
    points = jax.jit(jax.vmap(target.at))(positions)
    np.testing.assert_allclose(points.log_density, jax.vmap(target.log_density)(positions))
    np.testing.assert_array_equal(points.finite, jax.vmap(base.at)(positions).finite)


def test_infinite_density_is_replaced():
    target = target_from_log_density(lambda x: -0.5 * jnp.log(x[0]) / (x[0] > 0), 1)
    assert target.log_density(jnp.zeros(1)) == REPLACED_LOG_DENSITY
    assert not target.at(jnp.zeros(1)).finite


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev])
def test_derivatives_are_zero_where_a_point_was_replaced(transform):
    target = target_from_log_density(spiky, 2)
    start = jnp.stack([GOOD, *BAD.values()])
    gradient = transform(lambda position: target.at(position).log_density)
    hessian = transform(lambda position: target.at(position).score)
    for derivative, expected in ((gradient, jax.grad(spiky)), (hessian, jax.hessian(spiky))):
        values = jax.jit(jax.vmap(derivative))(start)
        np.testing.assert_allclose(values[0], jax.jit(expected)(GOOD))
        np.testing.assert_array_equal(values[1:], 0)
    value_only = jax.jit(jax.vmap(transform(target.log_density)))(start)
    assert jnp.isfinite(value_only[jnp.array([0, 1, 2, 4])]).all()
    hessian = jax.jit(jax.hessian(target.log_density))(GOOD)
    np.testing.assert_allclose(hessian, jax.jit(jax.hessian(spiky))(GOOD))


def test_gradient_through_a_scan_of_scores():
    target = target_from_log_density(spiky, 2)

    def walk(start):
        def step(x, _):
            point = target.at(x)
            return x + 0.1 * point.score, point.log_density

        end, densities = jax.lax.scan(step, start, length=3)
        return end.sum() + 1e-3 * densities.sum()

    starts = jnp.stack([GOOD, *BAD.values()])
    gradients = jax.jit(jax.vmap(jax.grad(walk)))(starts)
    assert jnp.isfinite(gradients).all()
    np.testing.assert_allclose(gradients[1], 1.0)  # replaced at every step, so it does not move
    _, slope = jax.jit(lambda x: jax.jvp(walk, (x,), (jnp.ones(2),)))(GOOD)
    np.testing.assert_allclose(slope, gradients[0].sum())


@jax.custom_vjp
def exp_for_reverse_mode(x):
    """An exponential that has derivatives backward only, to any order, as ODE solvers may."""
    return jnp.exp(x)


exp_for_reverse_mode.defvjp(
    lambda x: (exp_for_reverse_mode(x), x),
    lambda x, cotangent: (cotangent * exp_for_reverse_mode(x),),
)


def test_a_function_with_derivatives_backward_only_is_differentiated_backward():
    def density(exp):
        return target_from_log_density(lambda x: -jnp.sum(exp(x) - x), 2)

    backward, both = density(exp_for_reverse_mode), density(jnp.exp)
    score = jax.jit(jax.grad(backward.log_density))(GOOD)
    np.testing.assert_allclose(score, both.at(GOOD).score)
    np.testing.assert_allclose(jax.jit(backward.at)(GOOD).score, score)
    hessian = jax.jit(jax.hessian(both.log_density))(GOOD)
    for first in (lambda x: backward.at(x).score, jax.grad(backward.log_density)):
        np.testing.assert_allclose(jax.jit(jax.jacrev(first))(GOOD), hessian)


def test_gradient_with_respect_to_data():
    target = schools()

    def density(arrays):
        return eqx.tree_at(lambda t: t.arrays, target, arrays).at(jnp.zeros(10)).log_density

    gradients = jax.grad(density)(target.arrays)
    effects = [g for g, a in zip(gradients, target.arrays, strict=True) if (a == EFFECTS).all()][0]
    np.testing.assert_allclose(effects, -EFFECTS / ERRORS**2)


def test_float32_tails_are_guarded():
    with jax.enable_x64(False):
        target = target_from_model(jax.random.key(0), one_site(dist.LKJCholesky(4)))
        positions = 20 * jax.random.normal(jax.random.key(1), (200, target.dim))
        points = jax.jit(jax.vmap(target.at))(positions)
        assert points.log_density.dtype == points.score.dtype == jnp.float32
        assert points.log_density.shape == (200,) and points.score.shape == (200, 6)
        assert jnp.isfinite(points.log_density).all() and jnp.isfinite(points.score).all()
        assert 0 < points.finite.sum() < 200
        weights = jax.nn.softmax(points.log_density)
        np.testing.assert_array_equal(weights[~points.finite], 0)
        assert jnp.isfinite(jnp.sum(points.log_density**2, where=~points.finite))
