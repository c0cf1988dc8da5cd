"""Draws walk out of charts that leave something out, and stay in charts that do not."""

import jax
import numpy as np
import pytest

from numpyro_bridge.atlas.judge import judge
from numpyro_bridge.atlas.walk import walked_out
from tests.mixtures import normals_at, rows_of
from tests.targets import normal


def walk_from(scale: float):
    """Walk from a chart of this scale in a standard normal posterior of two dimensions."""
    target = normal([0.0, 0.0], np.eye(2)).target
    charts = rows_of(normals_at([[0.0, 0.0]], [scale]))
    seen = judge(jax.random.key(0), target, charts, np.zeros(1))
    return seen, walked_out(jax.random.key(1), target, seen)


def test_draws_of_a_chart_that_is_too_narrow_walk_out_of_it():
    seen, walk = walk_from(0.4)
    (ends,), (share,) = walk.ends, walk.shares
    # Inside of all draws of the chart lies less than this share of the posterior.
    outside = np.exp(-0.5 * np.max(np.sum(seen.position**2, axis=1)))
    assert 0.3 * outside < share < 3 * outside
    assert np.min(np.linalg.norm(ends, axis=1)) > np.quantile(np.abs(seen.position), 0.99)
    assert walk.num_gradient_evaluations > 10_000


@pytest.mark.parametrize("scale", [1.0, 1.4])
def test_draws_of_a_chart_that_covers_everything_stay_inside(scale):
    seen, walk = walk_from(scale)
    assert walk.ends == [] and walk.shares == []
    # Where the draws are nearly independent ones, none of them walks.
    assert (walk.num_gradient_evaluations == 0) == (seen.ess > 0.97) == (scale == 1.0)
