"""BFGS in one loop reaches the lowest point, keeps to its limits, and minds no neighbour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.quasi_newton import lowest_from

LIMITS = {"max_steps": 60, "max_evaluations": 120}


def bowl(x):
    scales = jnp.logspace(-3, 1, x.size)
    return 0.5 * jnp.sum(((x - 1.0) / scales) ** 2)


def banana(x):
    return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2


def walled(x):
    """The cost is no number where a coordinate is negative, and lowest at one half."""
    return jnp.sum(2.0 * x - jnp.log(x))


@pytest.mark.parametrize(
    "cost, start, lowest",
    [
        (bowl, np.linspace(-3.0, 3.0, 5), np.ones(5)),
        (banana, np.asarray([-1.2, 1.0]), np.ones(2)),
        (walled, np.asarray([40.0, 1e-3]), np.full(2, 0.5)),
    ],
)
def test_the_lowest_point_is_reached(cost, start, lowest):
    found = lowest_from(cost, jnp.asarray(start), **LIMITS)
    assert cost(found.position) - cost(jnp.asarray(lowest)) < 1e-7
    assert found.num_evaluations < 100


def test_of_many_climbs_each_goes_as_if_it_were_alone():
    starts = jax.random.normal(jax.random.key(0), (6, 2)) * 3.0
    together = jax.vmap(lambda start: lowest_from(banana, start, **LIMITS))(starts)
    alone = [lowest_from(banana, start, **LIMITS) for start in starts]
    assert len(set(together.num_evaluations.tolist())) > 1
    assert together.num_evaluations.tolist() == [int(one.num_evaluations) for one in alone]
    np.testing.assert_allclose(together.position, [one.position for one in alone], atol=1e-6)


@pytest.mark.parametrize("limits", [(3, 1000), (1000, 7)])
def test_limits_are_kept_and_what_was_reached_is_returned(limits):
    start = jnp.asarray([-1.2, 1.0])
    max_steps, max_evaluations = limits
    found = lowest_from(banana, start, max_steps=max_steps, max_evaluations=max_evaluations)
    # The start, and what the length at the start took, are two evaluations more.
    assert found.num_evaluations <= min(max_evaluations, 10 * max_steps + 1) + 2
    assert banana(found.position) < banana(start)


def test_where_the_cost_is_no_number_the_start_is_returned():
    found = lowest_from(lambda x: x[0] * jnp.nan, jnp.ones(2), **LIMITS)
    np.testing.assert_array_equal(found.position, jnp.ones(2))


def test_a_gradient_of_zero_is_an_end():
    found = lowest_from(bowl, jnp.ones(3), **LIMITS)
    np.testing.assert_array_equal(found.position, jnp.ones(3))
    assert found.num_evaluations == 3
