"""With many data, every evaluation is dear: less is explored, and the verdict says so."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.effort import HEAVY, LIGHT, is_heavy, share_of_effort
from numpyro_bridge.atlas.explore import explore, num_climbs
from numpyro_bridge.atlas.judge import judge
from numpyro_bridge.atlas.probes import NUM_GROUPS
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.witness import temper
from numpyro_bridge.infer.annealed import _pays_to_bend, _Tried
from numpyro_bridge.target import target_from_log_density

PLAIN = target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 2)


def with_data(num_bytes: int):
    """The same density, as if so many bytes of data were behind it."""
    return replace(PLAIN, reading=PLAIN.reading._replace(num_bytes=num_bytes))


@pytest.mark.fast
def test_effort_falls_with_the_data():
    assert [share_of_effort(with_data(size)) for size in (0, LIGHT, 4 * LIGHT)] == [1.0, 1.0, 0.25]
    assert [is_heavy(with_data(size)) for size in (HEAVY, HEAVY + 1)] == [False, True]
    assert num_climbs(5) == num_climbs(5, 1.0) == 8 * NUM_GROUPS
    assert [num_climbs(5, share) for share in (0.5, 0.25, 0.001)] == [
        4 * NUM_GROUPS,
        2 * NUM_GROUPS,
        NUM_GROUPS,
    ]


def test_a_heavy_target_has_no_particles_and_its_reason(key):
    heavy = with_data(13_000_000)
    seen = explore(key, heavy)
    assert seen.num_climbs == 2 * NUM_GROUPS and seen.settled
    judged = judge(key, heavy, [row(seen.normals, 0)], seen.log_mass)
    assert temper(key, heavy, seen.normals, judged) == "one evaluation of the model takes 13 MB"


@pytest.mark.fast
def test_few_heavy_weights_ask_for_a_bent_map_and_many_directions_do_not():
    rng = np.random.default_rng(0)
    even = 0.3 * rng.normal(size=2_000)
    funnel = np.where(np.arange(2_000) < 3, 5.0, even)
    many = 2.5 * rng.normal(size=2_000)

    def pays(log_weight, dim=100, num_steps=16):
        return _pays_to_bend(_Tried(num_steps, 0.35, 0), log_weight, dim)

    assert [pays(each) for each in (even, funnel, many)] == [False, True, False]
    assert not pays(funnel, dim=201)
    assert pays(many, num_steps=256) and not pays(many, dim=601, num_steps=256)
