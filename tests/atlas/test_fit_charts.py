"""Charts of several places at once: what each of them is responsible for, and how it bends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb

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
