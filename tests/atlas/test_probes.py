"""Probes: by what they notice a mode that no place explains."""

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge.atlas.probes import _looked_at, probed_starts
from numpyro_bridge.atlas.stacked import row, whitened
from numpyro_bridge.target import target_from_log_density
from tests.mixtures import mixture

DIM = 10
FAR = np.eye(DIM)[0] * 20.0


def narrow_beside_wide():
    """A wide mode that is known, and a narrow one ten standard deviations away."""
    return mixture([0.9, 0.1], [np.zeros(DIM), FAR], [2.0, 0.5])


def test_the_gradient_tells_of_a_narrow_mode_far_from_its_top(key):
    known = narrow_beside_wide()
    near, wide = jax.random.split(key)
    # Seven of its own standard deviations from the narrow mode, on every side.
    around = jax.random.normal(near, (50, DIM))
    around = FAR + 3.5 * around / jnp.linalg.norm(around, axis=1, keepdims=True)
    others = 4.0 * jax.random.normal(wide, (2000, DIM))
    place = whitened(row(known.normals, slice(1)))

    def looked(position):
        return _looked_at(known.target, place, jnp.zeros(1), position, True)

    _, turned, _ = jax.vmap(looked)(around)
    excess_of_others, turned_of_others, _ = jax.vmap(looked)(others)
    # In the tails of the wide mode the gradient leads home, and the excess is that of its mass.
    np.testing.assert_allclose(turned_of_others, -1.0, atol=1e-6)
    np.testing.assert_allclose(excess_of_others[:, 0], excess_of_others[0, 0], atol=1e-6)
    assert jnp.min(turned) > -0.9


def test_a_gradient_that_leads_to_any_place_is_no_news(key):
    known = narrow_beside_wide()
    around = FAR + jax.random.normal(key, (50, DIM))
    both = whitened(known.normals)

    def turned(log_mass):
        look = jax.vmap(lambda x: _looked_at(known.target, both, log_mass, x, True)[1])
        return look(around)

    np.testing.assert_allclose(turned(known.log_mass), -1.0, atol=1e-4)
    # A place without mass is none: it fills up the rows.
    assert jnp.max(turned(jnp.asarray([0.0, -jnp.inf]))) > -0.9


def test_of_several_batches_each_group_keeps_its_best(key, monkeypatch):
    """Starts from eight batches exceed the places by at least as much as those from one."""
    target = target_from_log_density(lambda x: -jnp.sum(jnp.abs(x)), DIM)
    places = row(mixture([1.0], [np.zeros(DIM)], [1.0]).normals, slice(1))
    module = "numpyro_bridge.atlas.probes._num_batches"
    found = []
    for num in (1, 8):
        monkeypatch.setattr(module, lambda *_, num=num, **__: num)
        found.append(probed_starts(key, target, 128, places, np.zeros(1), None))
    assert [one.num_probes for one in found] == [16_384, 8 * 16_384]
    assert all(one.starts.shape == (128, DIM) for one in found)
    excess = [
        jax.vmap(lambda x: target.log_density(x) + 0.5 * x @ x)(one.starts[:32]) for one in found
    ]
    assert jnp.mean(excess[1]) > jnp.mean(excess[0])
