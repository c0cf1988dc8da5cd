"""The stretches are invertible, their Jacobians are exact, and they make Student tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln

from numpyro_bridge.atlas.fit_coupling import fit_coupling
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.radial import Radial, along_axes, along_axes_inverse
from numpyro_bridge.atlas.standardised_target import weights_of_draws
from numpyro_bridge.target import target_from_log_density


@pytest.mark.slow
@pytest.mark.fast
@pytest.mark.parametrize("heaviness", [0.0, 1e-5, 0.1, 0.7, 3.0])
@pytest.mark.parametrize("dim", [1, 4])
def test_the_inverse_undoes_it_and_the_jacobian_is_that_of_autodiff(heaviness, dim):
    radial = Radial(jnp.asarray(heaviness))
    noise = 2.0 * jax.random.normal(jax.random.key(dim), (50, dim))
    stretched = jax.vmap(radial)(noise)
    np.testing.assert_allclose(jax.vmap(radial.inverse)(stretched), noise, rtol=1e-9, atol=1e-12)
    _, log_det = jnp.linalg.slogdet(jax.vmap(jax.jacfwd(radial))(noise))
    np.testing.assert_allclose(jax.vmap(radial.log_det)(noise), log_det, rtol=1e-9, atol=1e-10)
    slopes = jax.vmap(jax.jacrev(radial.inverse))(stretched)
    _, inverse_log_det = jnp.linalg.slogdet(slopes)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-7, atol=1e-9)


@pytest.mark.fast
def test_the_derivative_of_a_radial_stretch_is_solved_exactly():
    radial = Radial(jnp.asarray(0.4))
    noise, slope = jax.random.normal(jax.random.key(0), (2, 4))
    expected = jnp.linalg.solve(jax.jacfwd(radial)(noise).T, slope)
    np.testing.assert_allclose(radial.solve(noise, slope), expected, rtol=1e-9)


@pytest.mark.fast
def test_each_axis_is_stretched_at_its_own_rate():
    heaviness = jnp.asarray([0.0, 1e-5, 0.2, 1.0])
    noise = 2.0 * jax.random.normal(jax.random.key(0), (50, 4))
    stretched = jax.vmap(along_axes, (0, None))(noise, heaviness)
    back = jax.vmap(along_axes_inverse, (0, None))(stretched.position, heaviness)
    np.testing.assert_allclose(back, noise, rtol=1e-9, atol=1e-12)
    slopes = jax.vmap(jax.jacfwd(lambda x: along_axes(x, heaviness).position))(noise)
    np.testing.assert_allclose(slopes, jax.vmap(jnp.diag)(jnp.exp(stretched.log_slope)), rtol=1e-9)
    np.testing.assert_array_equal(stretched.position[:, 0], noise[:, 0])


@pytest.mark.fast
def test_far_out_and_at_zero_nothing_overflows():
    radial = Radial(jnp.asarray(0.5))
    far = jnp.asarray([1e30, -1e30, 0.0])
    inside = radial.inverse(far)
    assert jnp.all(jnp.isfinite(inside)) and jnp.max(inside) > 1e5
    np.testing.assert_allclose(radial(inside), far, rtol=1e-9)
    np.testing.assert_array_equal(radial.inverse(jnp.zeros(3)), np.zeros(3))
    assert jnp.all(jnp.isfinite(jax.jacrev(radial.inverse)(far)))


@pytest.mark.slow
def test_a_student_distribution_is_fitted_nearly_exactly():
    """The weights of normal draws have no variance here: that of the density is too heavy."""
    dim, df = 6, 4.0
    constant = gammaln((df + dim) / 2) - gammaln(df / 2) - dim / 2 * np.log(np.pi * df)
    target = target_from_log_density(
        lambda x: constant - (df + dim) / 2 * jnp.log1p(jnp.sum(x**2) / df), dim
    )
    bent, _ = fit_coupling(jax.random.key(0), target, DenseMap(jnp.zeros(dim), 1.2 * jnp.eye(dim)))
    assert 0.2 < float(bent.radial.heaviness) < 1.0
    log_weight = np.asarray(weights_of_draws(jax.random.key(1), bent, target))
    weight = np.exp(log_weight)
    assert np.mean(weight) ** 2 / np.mean(weight**2) > 0.97
    assert abs(np.mean(log_weight)) < 0.01
    assert abs(np.mean(weight) - 1) < 5 * np.std(weight) / np.sqrt(len(weight)) + 0.002


@pytest.mark.slow
def test_independent_student_tails_are_fitted_along_the_axes():
    """No radial stretch can do it: each coordinate is far out by itself."""
    dim, df = 8, 2.0
    constant = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(np.pi * df)
    target = target_from_log_density(
        lambda x: jnp.sum(constant - (df + 1) / 2 * jnp.log1p(x**2 / df)), dim
    )
    bent, _ = fit_coupling(jax.random.key(0), target, DenseMap(jnp.zeros(dim), 1.2 * jnp.eye(dim)))
    log_weight = np.asarray(weights_of_draws(jax.random.key(1), bent, target))
    weight = np.exp(log_weight)
    assert np.mean(weight) ** 2 / np.mean(weight**2) > 0.9
    assert -0.03 < np.mean(log_weight) < 0.01
    assert abs(np.mean(weight) - 1) < 5 * np.std(weight) / np.sqrt(len(weight)) + 0.002
