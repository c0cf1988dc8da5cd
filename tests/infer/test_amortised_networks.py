"""What conditions on data: the conditional normal distribution, and the scale of contexts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal

from numpyro_bridge.infer.amortise.conditional_normal import ConditionalNormal
from numpyro_bridge.infer.amortise.context import compressed, context_scale


def test_the_conditional_distribution_is_normal(key):
    """Its density is that of the map to its draws, whatever the weights."""
    normal = ConditionalNormal(key, 3, 4, width=8)
    context, position = jnp.asarray([0.3, -1.0, 2.0, 0.0]), jnp.asarray([0.5, 0.1, -0.7])

    @eqx.filter_jit
    def both(normal):
        normal = jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.normal(key, leaf.shape), normal)
        map = normal.map(context)
        logpdf = multivariate_normal.logpdf(position, map.location, map.factor @ map.factor.T)
        return normal.log_prob(position, context), logpdf

    np.testing.assert_allclose(*both(normal))


def test_contexts_have_unit_scale_whatever_the_tails():
    rng = np.random.default_rng(0)
    normal, cauchy = 10 + 0.01 * rng.normal(size=2_000), rng.standard_cauchy(2_000) ** 3
    rare = np.arange(2_000) == 7
    values = jnp.asarray(np.stack([normal, cauchy, np.ones(2_000), rare], axis=1))
    scale = context_scale(values)
    contexts = jax.jit(jax.vmap(scale))(values)
    assert np.std(contexts[:, 0]) == pytest.approx(1.0, abs=0.1)
    assert np.max(np.abs(contexts)) < 100 and not np.any(contexts[:, 2])
    assert scale.num_beyond(values[7]) == 0 and not scale.is_far(values[7])
    assert scale.num_beyond(jnp.asarray([11.0, 0.0, 0.0, 1.0])) == 2
    ends = jax.jit(jax.jacfwd(compressed))(jnp.asarray([1.99, 2.01]))
    np.testing.assert_allclose(jnp.diagonal(ends), 1.0, atol=0.01)


def test_data_may_be_unlike_the_simulations_in_no_number_but_as_a_whole():
    common, own = np.random.default_rng(0).normal(size=(2, 2_000, 2))
    scale = context_scale(jnp.asarray(np.c_[common[:, :1] + 0.1 * own, common[:, 1], own[:, 1]]))
    unlike, like = jnp.asarray([[1.5, -1.5, 0.0, 0.0], [1.5, 1.5, 0.0, 0.0]])
    assert scale.num_beyond(unlike) == 0
    assert scale.is_far(unlike) and not scale.is_far(like)
