"""Indices that lie outside of their array are noted, since JAX takes the nearest element."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from numpyro_bridge.target import target_from_model
from numpyro_bridge.target.indices import indices_outside

KEY = jax.random.key(0)
Y = np.array([1.0, 2.2, 2.9])


def groups(group, y=Y):
    effect = numpyro.sample("effect", dist.Normal().expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(effect[group], 1.0).to_event(1), obs=y)


@pytest.mark.parametrize("group", [[0, 1, 2], [-1, 0, 1], [-3, 0, 2]])
def test_indices_inside_are_not_noted(group):
    assert target_from_model(KEY, groups, jnp.asarray(group)).notes == ()


@pytest.mark.parametrize("group, range_", [([1, 2, 3], "1 to 3"), ([-4, 0, 1], "-1 to 1")])
def test_indices_outside_are_noted(group, range_):
    (note,) = target_from_model(KEY, groups, jnp.asarray(group)).notes
    assert f"{range_} among 3 elements (0 to 2)" in note and "Count from zero" in note


def test_a_missing_element_is_named_where_there_is_no_start():
    def model(group):
        effect = numpyro.sample("effect", dist.Normal().expand([3]).to_event(1))
        numpyro.sample("y", dist.Normal(jnp.take(effect, group), 1.0).to_event(1), obs=Y)

    with pytest.raises(ValueError, match="Indices lie outside.*1 to 3 among 3 elements"):
        target_from_model(KEY, model, jnp.array([1, 2, 3]))


ONES = jnp.ones((3, 2))
INDEXED = {
    "second axis": (lambda x: (x[:, None] * ONES)[jnp.array([0]), jnp.array([2])], "2 to 2"),
    "slice": (lambda x: jax.lax.dynamic_slice(x, [jnp.array(2)], [2]), "2 to 2"),
    "inside of compiled code": (jax.jit(lambda x: x[jnp.array([5])]), "5 to 5"),
    "clipped on purpose": (lambda x: x.at[jnp.array([5])].get(mode="clip"), None),
    "of the position": (lambda x: x[x.astype(int) + 7], None),
    "in a loop": (lambda x: jax.lax.fori_loop(0, 9, lambda i, y: y + x[i], x), None),
    "after a loop": (lambda x: x[jax.lax.fori_loop(0, 9, lambda i, y: y + 1, jnp.array(0))], None),
}


@pytest.mark.parametrize("name", INDEXED)
def test_what_is_looked_at(name):
    function, expected = INDEXED[name]
    found = indices_outside(function, 3)
    assert len(found) == (expected is not None)
    assert not found or found[0].startswith(f"{expected} among")
