"""Curricula: what the loss is shown changes, and what training returns is for the target itself."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.objectives.curricula import AbstractCurriculum
from numpyro_bridge.objectives.curricula.replay import TargetWithRuns
from numpyro_bridge.objectives.curricula.tempering import TemperedTarget
from numpyro_bridge.training import loop as train
from tests import catalogue, targets
from tests.catalogue import narrow
from tests.gradients import assert_one_gradient, gradients
from tests.hill import TOP, Hill, assert_same, climb, fit, interrupt_after
from tests.statistics import z_scores

SKEWED = targets.skewed().target
KEY = jax.random.key(0)


class Approach(AbstractCurriculum):
    """The top of the hill moves in from afar, and one random number is kept of every chunk."""

    warm_up: int = eqx.field(static=True, default=100)

    def start(self, rng_key, module, data):
        return jnp.ones(()), jax.random.normal(rng_key, (20,)), jnp.asarray(0)

    def advance(self, rng_key, iteration, memory, module, data):
        _, noise, place = memory
        remaining = 1 - jnp.minimum(iteration / self.warm_up, 1.0)
        return remaining, noise.at[place].set(jax.random.normal(rng_key)), place + 1

    def shown(self, memory, data):
        return data + 5.0 * memory[0]


def test_what_is_shown_first_is_not_compared_with_what_is_shown_last():
    """ELBOs far away are low, and it is the last of them that count."""
    training = fit(KEY, Hill(), climb, TOP, curriculum=Approach(), num_iterations=400)
    np.testing.assert_allclose(training.module.position, TOP, atol=0.1)
    assert np.min(training.metrics.elbo[:100]) < -10
    assert training.stopped == "budget"


def test_a_plateau_of_the_warm_up_ends_nothing():
    """The loss stands still there: it would be a plateau if it were of the target itself."""

    def flat(rng_key, hill, shown):
        return climb(rng_key, hill, hill.position + 0 * shown)

    settings = {"curriculum": Approach(warm_up=600), "num_iterations": 1_200, "tolerance": 1e9}
    training = fit(KEY, Hill(), flat, TOP, **settings)
    assert training.num_iterations > 600


def test_an_interrupted_curriculum_goes_on_where_it_was(monkeypatch, tmp_path):
    run = partial(fit, KEY, Hill(), climb, TOP, curriculum=Approach(), num_iterations=250)
    whole = run()
    path = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert run(checkpoint=path).num_iterations == 2 * train.CHUNK
    resumed = run(checkpoint=path)
    assert_same(resumed.module, whole.module)
    assert_same(resumed.metrics, whole.metrics)
    with pytest.raises(ValueError, match="another curriculum"):
        fit(KEY, Hill(), climb, TOP, num_iterations=250, checkpoint=path)


def test_a_curriculum_leaves_half_of_the_budget_to_the_target():
    with pytest.raises(ValueError, match="at least twice as many, got num_iterations=150"):
        fit(KEY, Hill(), climb, TOP, curriculum=Approach(), num_iterations=150)


# --- tempering ------------------------------------------------------------------------------------


@pytest.mark.fast
def test_the_temperature_falls_geometrically_to_one():
    tempering = nb.Tempering(16.0, num_iterations=100)
    first = tempering.start(KEY, None, SKEWED)
    iterations = jnp.asarray([0, 50, 100, 175])
    values = [tempering.advance(KEY, at, first, None, SKEWED) for at in iterations]
    np.testing.assert_allclose([first, *values], [16.0, 16.0, 4.0, 1.0, 1.0], rtol=1e-12)


@pytest.mark.fast
def test_a_tempered_target_is_a_power_of_the_target():
    tempered = TemperedTarget(SKEWED, jnp.asarray(3.0))
    position = jnp.asarray([0.3, -0.8])
    point = tempered.at(position)
    np.testing.assert_allclose(point.log_density, SKEWED.log_density(position) / 3)
    np.testing.assert_allclose(tempered.log_density(position), point.log_density)
    np.testing.assert_allclose(point.score, jax.grad(tempered.log_density)(position))
    np.testing.assert_allclose(tempered.constrain(position)["x"], position)
    assert tempered.dim == 2


def test_a_tempered_training_ends_at_the_target_itself():
    known = targets.two_modes()
    sampler = nb.BridgeSampler(
        known.target,
        process=partial(nb.CMCD, num_steps=8, control=narrow(8), diffusion=0.6),
        standardise=nb.no_standardisation,
        curriculum=nb.Tempering(20.0, num_iterations=50),
        num_iterations=150,
        num_trajectories=64,
        tolerance=0.0,
        progress_bar=False,
    )
    posterior = sampler.run(KEY)
    # A hot target is far from normalised: the ELBO of its training is another one.
    assert np.max(posterior.metrics.elbo[:25]) > known.log_evidence + 1
    draws = posterior.sample(jax.random.key(1), 4_000)
    assert draws.elbo < known.log_evidence + 3 * draws.elbo_error
    assert abs(draws.log_evidence - known.log_evidence) < 5 * draws.log_evidence_error


@pytest.mark.parametrize(
    ("temperature", "num_iterations", "message"),
    [
        (0.5, 10, "temperature of at least 1, got 0.5"),
        (2.0, 0, "num_iterations must be a whole number >= 1"),
    ],
)
def test_tempering_refuses_what_is_no_annealing(temperature, num_iterations, message):
    with pytest.raises(ValueError, match=message):
        nb.Tempering(temperature, num_iterations=num_iterations)


# --- replay ---------------------------------------------------------------------------------------


def shown_by(buffer: nb.ReplayBuffer, process) -> TargetWithRuns:
    return buffer.shown(eqx.filter_jit(buffer.start)(KEY, process, SKEWED), SKEWED)


def test_trajectories_of_the_present_chain_all_count_one():
    process = catalogue.untrained("CMCD")
    target = shown_by(nb.ReplayBuffer(20, num_new=5), process)
    batch = eqx.filter_jit(nb.objectives.replayed)(KEY, process, target, 32)
    np.testing.assert_allclose(batch.weight, 1.0, rtol=1e-9)
    assert len(batch.reported.log_weight) == 16
    again = np.asarray(target.remembered.states.position)
    for replayed in np.asarray(batch.runs.states.position)[16:]:
        assert np.any(np.all(replayed == again, axis=(1, 2)))


@pytest.mark.slow
def test_replayed_trajectories_are_weighted_to_the_present_chain():
    """A buffer that another chain has filled, large enough to stand for that chain."""
    process, earlier = (catalogue.untrained("CMCD", size=size) for size in (0.1, 0.06))
    target = shown_by(nb.ReplayBuffer(50_000, num_new=5), earlier)
    replaying = partial(nb.reverse_kl_ld, sampling=nb.objectives.replayed)
    replayed = gradients(replaying, jax.random.key(8), process, 20, 500, target)
    assert_one_gradient(replayed, gradients(nb.reverse_kl_ld, KEY, process, 20, 500, SKEWED))
    # The weights are needed: the chains are not one.
    unweighted = gradients(nb.reverse_kl_ld, KEY, earlier, 20, 500, SKEWED)
    assert np.max(np.abs(z_scores(replayed, unweighted))) > 8


def test_the_oldest_trajectories_make_room():
    buffer, process = nb.ReplayBuffer(5, num_new=3), catalogue.untrained("CMCD")
    advance = eqx.filter_jit(buffer.advance)
    first = eqx.filter_jit(buffer.start)(KEY, process, SKEWED)
    second = advance(jax.random.key(1), jnp.asarray(25), first, process, SKEWED)
    third = advance(jax.random.key(2), jnp.asarray(50), second, process, SKEWED)

    def is_kept(new, old):
        return np.isclose(new.log_forward, old.log_forward).tolist()

    assert is_kept(second, first) == [False, False, False, True, True]
    assert is_kept(third, second) == [False, True, True, False, False]
    assert int(third.oldest) == 1


def test_replaying_says_what_it_needs():
    process = catalogue.untrained("CMCD")
    with pytest.raises(TypeError, match=r"curriculum=nb.ReplayBuffer\(\)"):
        nb.objectives.replayed(KEY, process, SKEWED, 16)
    with pytest.raises(ValueError, match="num_trajectories must be a whole number >= 4.*got 2"):
        nb.objectives.replayed(KEY, process, shown_by(nb.ReplayBuffer(4, num_new=1), process), 2)
    with pytest.raises(ValueError, match="between 1 and the capacity, got 9 and 4"):
        nb.ReplayBuffer(4, num_new=9)
