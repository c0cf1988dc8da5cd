"""Cases in which an untrained sampler is exact, or as exact as the size of its steps allows."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.trajectories.simulate import simulate_many
from tests import catalogue, targets
from tests.catalogue import narrow


def spread_at(process, known: targets.Known) -> float:
    runs = eqx.filter_jit(simulate_many)(jax.random.key(0), process, known.target, 2_000)
    np.testing.assert_allclose(jnp.mean(runs.log_weight), known.log_evidence, atol=0.2)
    return float(jnp.std(runs.log_weight))


def assert_first_order(spread: dict[int, float]) -> None:
    """Four times the steps over the same time, a quarter of the spread."""
    few, many = spread.values()
    assert few > 0.01
    assert abs(few / many - 4) < 0.4, few / many


STEPS = (8, 32)
STANDARD = targets.normal(np.zeros(2), np.eye(2))
SMALLER = targets.normal([0.4, -0.3], 0.8**2 * np.eye(2))


def at_smaller() -> InitialNormal:
    """The distribution of `SMALLER`."""
    initial = InitialNormal(2, scale=0.8)
    return eqx.tree_at(lambda initial: initial.mean, initial, jnp.asarray([0.4, -0.3]))


@pytest.mark.parametrize(
    ("process", "known"),
    [
        pytest.param(partial(nb.CMCD, initial=at_smaller()), SMALLER, id="CMCD"),
        pytest.param(nb.DBS, STANDARD, id="DBS"),
        pytest.param(nb.DIS, STANDARD, id="DIS"),
    ],
)
def test_a_sampler_that_starts_at_its_target_is_exact_to_first_order_in_the_step(process, known):
    """In equilibrium it is reversible but for the size of its steps."""
    spread = {}
    for num_steps in STEPS:
        settings = catalogue.SMALL | {"num_steps": num_steps, "diffusion": num_steps**-0.5}
        spread[num_steps] = spread_at(process(jax.random.key(0), 2, **settings), known)
    assert_first_order(spread)


@pytest.mark.parametrize(
    ("process", "scale"), [(nb.DDS, 1.0), (partial(nb.PIS, diffusion=0.5), 1.25**0.5)]
)
def test_untrained_dds_and_pis_are_exact_on_their_reference(process, scale):
    """At any number of steps, to rounding."""
    known = targets.normal(np.zeros(2), scale**2 * np.eye(2))
    process = process(jax.random.key(0), 2, num_steps=4, control=narrow(8))
    runs = eqx.filter_jit(simulate_many)(jax.random.key(0), process, known.target, 100)
    np.testing.assert_allclose(runs.log_weight, known.log_evidence, rtol=1e-9)


@pytest.mark.parametrize(
    "integrator", [nb.processes.OBABO(), nb.processes.BAOAB(), nb.processes.OBAB()]
)
def test_underdamped_annealing_in_equilibrium_is_exact_to_second_order_in_the_step(integrator):
    """Four times the steps over the same time, a sixteenth of the spread."""

    def process(num_steps):
        return nb.UHA(
            jax.random.key(0),
            2,
            num_steps=num_steps,
            step_size=2 / num_steps,
            integrator=integrator,
            initial=at_smaller(),
        )

    few, many = (spread_at(process(num_steps), SMALLER) for num_steps in STEPS)
    assert few > 0.003
    assert abs(few / many - 16) < 3, few / many
