"""An optimiser that returns no numbers leaves the bent map as it was."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from numpyro_bridge.atlas.coupling import Coupling
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from tests import targets


def test_an_update_of_a_broken_optimiser_is_left_out(monkeypatch):
    """The map stays what it was before: one that bends nothing."""
    module = importlib.import_module("numpyro_bridge.atlas.fit_coupling")
    monkeypatch.setattr(module.optax, "scale_by_adam", lambda: optax.scale(float("nan")))
    standardised = StandardisedTarget(targets.skewed().target, DenseMap(jnp.zeros(2), jnp.eye(2)))
    start = Coupling(jax.random.key(1), 2, jnp.asarray(1))
    fit = module._fitted.__wrapped__  # compiled code would not see the change
    numbers = jnp.asarray(1), jnp.asarray(3), jnp.asarray(False), jnp.asarray(False)
    bent = fit(jax.random.key(1), jax.random.key(0), standardised, jnp.eye(2), *numbers)
    np.testing.assert_array_equal(bent.affine.factor @ bent.rotation, jnp.eye(2))
    np.testing.assert_array_equal(bent.affine.location, 0.0)
    jax.tree.map(np.testing.assert_array_equal, bent.coupling.hidden, start.hidden)
