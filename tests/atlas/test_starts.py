"""Starts of climbs: those from the prior lie on its shell and within it."""

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge.atlas.starts import NARROWEST, half_drawn_in


def test_half_of_the_prior_draws_are_drawn_in_towards_their_median(key):
    prior = 5.0 + 2.0 * jax.random.normal(key, (400, 12))
    seen = half_drawn_in(prior)
    np.testing.assert_array_equal(seen[:200], prior[:200])
    middle = jnp.median(prior, axis=0)
    distance = jnp.linalg.norm(prior[200:] - middle, axis=1)
    share = jnp.linalg.norm(seen[200:] - middle, axis=1) / distance
    np.testing.assert_allclose(share, np.geomspace(NARROWEST, 1.0, 200), rtol=1e-6)
    # Each is moved on a straight line to the median.
    straight = middle + share[:, None] * (prior[200:] - middle)
    np.testing.assert_allclose(seen[200:], straight, rtol=1e-6)


def test_a_draw_that_is_no_number_spoils_no_other():
    prior = jnp.asarray([[0.0], [jnp.nan], [1.0], [2.0]])
    np.testing.assert_allclose(half_drawn_in(prior), [[0.0], [jnp.nan], [1.0], [2.0]])
