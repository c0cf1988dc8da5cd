"""BlackJAX's interface: the same bridge under its loops, on positions of any structure."""

import math
from functools import partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core import weights
from numpyro_bridge.atlas.maps import diagonal_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from tests.catalogue import SMALL
from tests.statistics import assert_same_weighted_mean

SCALE, LOG_EVIDENCE = 1.3, 0.5 * 3 * math.log(2 * math.pi) + 3 * math.log(1.3) + 2.0
POSITION = {"a": np.zeros(2), "b": 0}


def logdensity(position):
    """Normal densities about one, times exp(2)."""
    squares = jnp.sum((position["a"] - 1) ** 2) + (position["b"] - 1) ** 2
    return 2.0 - 0.5 * squares / SCALE**2


def centred(rng_key, target):
    return nb.atlas.Standardisation(diagonal_map(jnp.full(3, 0.7), jnp.ones(3)))


OPTIMIZER: Any = nb.bridge_optimizer()
ALGORITHM = nb.as_blackjax(
    logdensity, process=partial(nb.CMCD, **SMALL), standardise=centred, num_trajectories=64
)


@pytest.fixture(scope="module")
def trained():
    return blackjax.util.run_inference_algorithm(
        jax.random.key(0), ALGORITHM, 200, initial_position=POSITION,
        transform=lambda state, metrics: metrics,
    )  # fmt: skip


def test_a_bridge_trains_under_the_loop_of_blackjax_and_has_the_exact_evidence(trained):
    state, metrics = trained
    assert metrics.elbo.shape == (200,)
    assert np.mean(metrics.elbo[-20:]) > np.mean(metrics.elbo[:20]) + 0.05
    positions, log_weight = ALGORITHM.sample(jax.random.key(1), state, 4_000)
    assert {name: x.shape for name, x in positions.items()} == {"a": (4_000, 2), "b": (4_000,)}
    estimate, error = weights.log_evidence(log_weight)
    assert error < 0.02 and abs(estimate - LOG_EVIDENCE) < 5 * error
    assert_same_weighted_mean(positions["b"], log_weight, 1.0)
    assert_same_weighted_mean((positions["a"][:, 1] - 1) ** 2, log_weight, SCALE**2)


def test_one_step_is_one_iteration_of_fit(key):
    """The interfaces share the iteration, not only the idea of it."""
    state = ALGORITHM.init(POSITION, key)

    @jax.jit
    def both(state):
        target = nb.target_from_log_density(lambda x: logdensity({"a": x[:2], "b": x[2]}), 3)
        standardised = StandardisedTarget(target, state.view)

        def loss(process):
            return nb.reverse_kl_ld(key, process, standardised, num_trajectories=64)

        gradient, runs = jax.grad(loss, has_aux=True)(state.process)
        updates, _ = OPTIMIZER.update(gradient, state.optimizer_state, state.process)
        by_hand = jax.tree.map(jnp.add, state.process, updates), jnp.mean(runs.log_weight)
        return ALGORITHM.step(key, state), by_hand

    (stepped, metrics), (expected, elbo) = both(state)
    np.testing.assert_allclose(metrics.elbo, elbo)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-10), stepped.process, expected)


def test_initialisation_can_be_compiled_where_nothing_is_standardised():
    algorithm = nb.as_blackjax(
        logdensity, process=partial(nb.CMCD, **SMALL), standardise=nb.no_standardisation
    )
    state = jax.jit(algorithm.init)(POSITION, jax.random.key(0))
    assert state.view.location.shape == (3,)


def test_what_cannot_work_is_refused(as_users):
    with pytest.raises(ValueError, match="init explores the density.*no_standardisation"):
        jax.jit(ALGORITHM.init)(POSITION, jax.random.key(0))
    with pytest.raises(ValueError, match=r"optax.adam\(0.1\)"):
        nb.as_blackjax(logdensity, optimizer=0.1)
    with pytest.raises(ValueError, match="logdensity_fn must be a function"):
        nb.as_blackjax(3)
    with pytest.raises(ValueError, match="takes no argument 'nun_steps'; did you mean 'num_steps'"):
        nb.as_blackjax(logdensity, process=partial(nb.CMCD, nun_steps=3))
