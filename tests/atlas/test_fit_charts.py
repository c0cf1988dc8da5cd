"""Charts of several places at once: what each of them is responsible for, and how it bends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas.bend_charts import _bent_from_moments
from numpyro_bridge.atlas.fit_coupling import fit_coupling
from numpyro_bridge.atlas.fitted import judged
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.stacked import row, stack

LOG_MASS = np.log([0.3, 0.7])
BEND, THICKNESS = 3.0, 0.3
PLACE, SCALE = np.array([9.0, 12.0]), 2.0


def valley_beside_a_hill(x):
    """A parabola whose arm ends beside a wide normal distribution; the log evidence is zero."""
    across = (x[1] - BEND * (x[0] ** 2 - 1)) / THICKNESS
    valley = -0.5 * (x[0] ** 2 + across**2) - jnp.log(2 * jnp.pi * THICKNESS)
    hill = -0.5 * jnp.sum(((x - PLACE) / SCALE) ** 2) - jnp.log(2 * jnp.pi * SCALE**2)
    return jnp.logaddexp(LOG_MASS[0] + valley, LOG_MASS[1] + hill)


@pytest.mark.slow
def test_the_arm_of_a_valley_belongs_to_the_chart_of_the_valley(key):
    """A wide chart is nearer to the arm than the normal distribution at the valley's top."""
    target = nb.target_from_log_density(valley_beside_a_hill, 2)
    exploration = nb.atlas.explore(key, target)
    # Without repairs: what one fit covers.
    atlas = nb.atlas.chart(key, target, exploration, temper=None, max_rounds=1)
    assert atlas.num_charts == 2 and atlas.num_repairs == 0
    np.testing.assert_allclose(np.sort(atlas.share), [0.3, 0.7], atol=0.01)
    assert abs(atlas.log_evidence) < 0.01 and atlas.ess > 0.8
    # The normals that divide the posterior are as long as the valley.
    lighter = int(np.argmin(atlas.share))
    along = np.linspace(-1.5, 1.5, 5)
    arms = jnp.stack([along, BEND * (along**2 - 1)], axis=1)
    seen = atlas.target(target, bridged=True)
    assert isinstance(seen, nb.atlas.ChartedTarget)
    log_shares = jax.vmap(seen.partition.log_responsibilities)(arms)
    assert np.all(np.exp(log_shares[:, lighter]) > 0.5)


def two_bananas(x):
    """Rosenbrock's density for two pairs of coordinates; the log evidence is zero."""
    along, across = x[::2], x[1::2]
    constant = x.size / 2 * jnp.log(10 / jnp.pi)
    return constant - jnp.sum((1 - along) ** 2 + 100 * (across - along**2) ** 2)


@pytest.mark.slow
def test_a_chart_at_the_bend_grows_to_the_whole_of_a_banana():
    """It is bent from the normal distribution that its weighted draws look like."""
    fit_key, judge_key = jax.random.split(jax.random.key(1))
    target = nb.target_from_log_density(two_bananas, 4)
    normals = stack([DenseMap(jnp.ones(4), 0.1 * jnp.eye(4))])
    narrow = judged(judge_key, target, normals, [row(normals, 0)], np.zeros(1), 0)
    assert not narrow.seen.good and narrow.seen.log_evidence < -0.5
    fit = partial(fit_coupling, covering=True)
    fitted = _bent_from_moments(fit_key, judge_key, target, narrow, fit)
    assert fitted.seen.good and fitted.seen.ess > 0.9
    assert abs(fitted.seen.log_evidence) < 4 * fitted.seen.log_evidence_error + 0.005
    assert fitted.num_gradient_evaluations > narrow.num_gradient_evaluations
    # Nothing is gained by another fit.
    again = _bent_from_moments(fit_key, judge_key, target, fitted, fit)
    assert again.num_gradient_evaluations == fitted.num_gradient_evaluations
