"""Losses: estimators of one gradient agree, and those of two do not."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from tests import catalogue, targets
from tests.catalogue import narrow
from tests.gradients import (
    NUM_BATCHES,
    TARGET,
    assert_one_gradient,
    columns_of,
    gradients,
    many_gradients,
)
from tests.statistics import assert_same_mean, z_scores


class DetachedScore(nb.processes.AbstractProcess):
    """A process that differentiates nothing through the score: another gradient along the path."""

    inner: nb.processes.AbstractProcess

    def __init__(self, inner):
        self.inner = inner

    @property
    def num_steps(self):
        return self.inner.num_steps

    def start(self, target):
        return self.inner.start(target)

    def controls(self, step, point):
        return self.inner.controls(step, point._replace(score=jax.lax.stop_gradient(point.score)))

    def forward(self, step, state, target):
        return self.inner.forward(step, state, target)

    def backward(self, step, state, target):
        return self.inner.backward(step, state, target)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["CMCD", pytest.param("DBS", marks=pytest.mark.fast), "DDS", "UnderdampedCMCD"]
)
def test_reverse_kl_and_its_log_derivative_form_have_one_gradient(name):
    along_path = many_gradients("reverse_kl", name)
    log_derivative = many_gradients("reverse_kl_ld", name)
    assert_one_gradient(along_path, log_derivative)
    # The agreement says something: most entries, of all parts, are far from zero.
    signal = np.abs(z_scores(along_path, np.zeros(())))
    assert np.median(signal) > 5
    fields = ["log_step_size", "log_friction", "log_mass"]
    noise = [partial(lambda f, p: getattr(p.scales, f), f) for f in fields]
    for part in (*(noise if "Und" in name else [lambda p: p.diffusion]), lambda p: p.initial):
        assert np.max(signal[columns_of(name, part)]) > 5
    if "CMCD" in name:
        assert np.max(signal[columns_of(name, lambda p: p.annealing)]) > 5


@pytest.mark.slow
def test_states_that_determine_parts_of_a_process_leave_these_parts_alone():
    """Of BAOAB's moves only the renewal is random; the others are learned along the path alone."""
    name = "UnderdampedCMCD by BAOAB"
    fixed = columns_of(name, lambda p: p.fixed_by_states())
    along_path, log_derivative = (
        many_gradients(objective, name) for objective in ("reverse_kl", "reverse_kl_ld")
    )
    assert not np.any(log_derivative[:, fixed])
    assert np.any(along_path[:, fixed])
    assert_one_gradient(along_path[:, ~fixed], log_derivative[:, ~fixed])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CMCD", "UnderdampedCMCD by BAOAB"])
def test_the_path_gradient_is_the_gradient_with_less_noise_near_the_optimum(name):
    assert_one_gradient(many_gradients("reverse_kl_path", name), many_gradients("reverse_kl", name))


@pytest.mark.slow
@pytest.mark.parametrize("objective", catalogue.OBJECTIVES)
def test_a_loss_is_at_rest_where_the_bridge_is_exact(objective):
    """There its gradient is zero on average, in every parameter, and elsewhere it is not."""
    known, loss = targets.normal(np.zeros(2), np.eye(2)), catalogue.OBJECTIVES[objective]
    exact = nb.DDS(jax.random.key(0), 2, num_steps=3, control=narrow(4))
    at_rest, moving = (
        gradients(loss, jax.random.key(1), process, 200, 16, known.target)
        for process in (exact, catalogue.perturbed(jax.random.key(2), exact, size=0.2))
    )
    assert_same_mean(at_rest, 0.0)
    assert np.max(np.abs(z_scores(moving, 0.0))) > 10


@pytest.mark.slow
def test_gradients_have_no_noise_where_the_weights_are_equal():
    """The plain pathwise gradient has noise even so: that of a score, whose mean is zero."""
    known = targets.normal(np.zeros(2), np.eye(2))
    process = nb.DDS(jax.random.key(0), 2, num_steps=3, control=narrow(4))
    control = columns_of(process, lambda p: p.control)

    def largest(objective, columns):
        rows = gradients(objective, jax.random.key(1), process, 20, 8, known.target)
        return float(jnp.max(jnp.abs(rows[:, columns])))

    assert largest(nb.reverse_kl_ld, slice(None)) < 1e-12
    # The backward chain reads noise and initial distribution, whose score keeps its noise here.
    assert largest(nb.reverse_kl_path, control) < 1e-12
    assert largest(nb.reverse_kl, control) > 0.01


@pytest.mark.slow
def test_exploration_is_weighted_back():
    """With many trajectories a batch, since self-normalised weights are right in the limit."""
    process = catalogue.untrained("CMCD", size=0.1)
    settings = (jax.random.key(8), process, 100, 2_000)
    explored = catalogue.OBJECTIVES["reverse_kl_ld explored"]
    assert_one_gradient(gradients(explored, *settings), gradients(nb.reverse_kl_ld, *settings))


def test_exploration_reports_on_the_forward_chain():
    process = catalogue.untrained("CMCD")
    _, explored = evaluate(
        partial(nb.log_variance, sampling=partial(nb.objectives.widened, factor=1.2)),
        process,
        20_000,
    )
    _, forward = evaluate(nb.log_variance, process, 20_000)
    # Resampled rows are not independent: fewer of them count.
    np.testing.assert_allclose(
        jnp.mean(jnp.tanh(explored.log_weight)), jnp.mean(jnp.tanh(forward.log_weight)), atol=0.03
    )
    start = explored.states.position[:, 0]
    np.testing.assert_allclose(
        jnp.std(start, axis=0), jnp.exp(process.initial.log_scale), rtol=0.05
    )


@pytest.mark.slow
def test_forward_kl_by_weights_and_by_exact_draws_have_one_gradient():
    """Two ways to average over the backward chain."""
    known = targets.normal([0.2, -0.1], [[1.0, 0.2], [0.2, 0.8]])
    process = catalogue.untrained("CMCD", size=0.02)  # weights with light tails
    positions = known.draw(jax.random.key(9), 200_000)
    from_draws = nb.forward_kl_from_draws(positions)
    by_draws = gradients(from_draws, jax.random.key(1), process, 100, 2_000, known.target)
    by_weights = gradients(nb.forward_kl, jax.random.key(2), process, 100, 2_000, known.target)
    assert_one_gradient(by_draws, by_weights)
    assert np.median(np.abs(z_scores(by_draws, np.zeros(())))) > 5


@pytest.mark.fast
def test_trajectory_balance_with_the_best_log_evidence_is_log_variance():
    inner = catalogue.untrained("CMCD")
    variance, runs = evaluate(nb.log_variance, inner, 16)
    best = float(jnp.mean(runs.log_weight))
    process = nb.objectives.with_log_evidence(lambda: inner, best)()
    balance, _ = evaluate(nb.trajectory_balance, process, 16)
    np.testing.assert_allclose(balance, variance * 15 / 16, rtol=1e-9)
    too_high = nb.objectives.with_log_evidence(lambda: inner, best + 2.0)()
    np.testing.assert_allclose(
        evaluate(nb.trajectory_balance, too_high, 16)[0], balance + 2.0, rtol=1e-9
    )


def test_trajectory_balance_says_what_it_needs():
    with pytest.raises(
        TypeError, match=r"write process=nb.objectives.with_log_evidence\(nb.CMCD\)"
    ):
        evaluate(nb.trajectory_balance, catalogue.untrained("CMCD"), 16)


@pytest.mark.slow
def test_sub_trajectory_balance_of_the_longest_piece_is_trajectory_balance():
    inner = catalogue.untrained("UnderdampedCMCD")
    whole = nb.objectives.with_log_flow(lambda rng_key, dim: inner, 0.7)(jax.random.key(0), 2)
    whole = catalogue.perturbed(jax.random.key(1), whole)
    longest = partial(nb.sub_trajectory_balance, decay=1e12)
    balance = nb.objectives.with_log_evidence(
        lambda: whole.process, float(whole.log_evidence.value)
    )()
    np.testing.assert_allclose(
        evaluate(longest, whole, 16)[0],
        evaluate(nb.trajectory_balance, balance, 16)[0],
        rtol=1e-9,
    )
    # The flow inside is learned: it enters where shorter pieces count.
    correction = columns_of(whole, lambda p: p.correction)
    rows = gradients(nb.sub_trajectory_balance, jax.random.key(2), whole, 2, 16)
    assert float(jnp.median(jnp.abs(rows[:, correction]))) > 1e-6


def test_every_piece_is_in_balance_where_the_bridge_is_exact():
    """A process at rest on its target, with the right evidence: its flow is the target."""
    known = targets.normal(np.zeros(2), np.eye(2))
    make = nb.objectives.with_log_flow(
        partial(nb.DDS, num_steps=4, control=narrow(4)), known.log_evidence
    )
    loss, _ = evaluate(nb.sub_trajectory_balance, make(jax.random.key(1), 2), 8, known.target)
    assert float(loss) < 1e-20


def test_sub_trajectory_balance_says_what_it_needs():
    with pytest.raises(TypeError, match=r"write process=nb.objectives.with_log_flow\(nb.CMCD\)"):
        evaluate(nb.sub_trajectory_balance, catalogue.untrained("CMCD"), 16)
    process = nb.objectives.with_log_flow(catalogue.PROCESSES["CMCD"])(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="decay must be a positive number.*got 0"):
        evaluate(partial(nb.sub_trajectory_balance, decay=0.0), process, 16)


def test_a_mixed_objective_is_the_sum_of_its_parts():
    process = catalogue.untrained("CMCD")
    mixed = nb.mixed((0.25, nb.reverse_kl_ld), (2.0, nb.log_variance))
    expected = 0.25 * evaluate(nb.reverse_kl_ld, process, 16)[0]
    expected += 2.0 * evaluate(nb.log_variance, process, 16)[0]
    np.testing.assert_allclose(evaluate(mixed, process, 16)[0], expected, rtol=1e-9)
    assert mixed.__name__ == "mixed(0.25 reverse_kl_ld, 2 log_variance)"
    for parts in ((), ((math.inf, nb.reverse_kl),), ((math.nan, nb.reverse_kl),)):
        with pytest.raises(ValueError, match="parts must be pairs of a positive factor and a loss"):
            nb.mixed(*parts)
    with pytest.raises(ValueError, match="write num_trajectories=8 beside objective="):
        nb.mixed((0.5, partial(nb.reverse_kl, num_trajectories=8)))
    explored = nb.mixed((0.5, partial(nb.log_variance, sampling=nb.objectives.widened)))
    assert explored.__name__ == "mixed(0.5 log_variance(sampling=widened))"


def test_a_detached_score_has_another_gradient_along_the_path():
    process = DetachedScore(catalogue.untrained("CMCD", size=0.1))
    detached = gradients(nb.reverse_kl, jax.random.key(5), process, NUM_BATCHES, 64)
    assert np.max(np.abs(z_scores(detached, many_gradients("reverse_kl_ld", "CMCD")))) > 8


@eqx.filter_jit
def evaluate(objective, process, num_trajectories: int, target=TARGET):
    return objective(jax.random.key(0), process, target, num_trajectories=num_trajectories)


@pytest.mark.fast
def test_every_objective_reports_on_the_trajectories_of_its_key():
    process = catalogue.untrained("CMCD")
    loss, runs = evaluate(nb.reverse_kl, process, 16)
    np.testing.assert_allclose(loss, -jnp.mean(runs.log_weight), rtol=1e-9)
    _, same_runs = evaluate(nb.reverse_kl_ld, process, 16)
    np.testing.assert_allclose(same_runs.log_weight, runs.log_weight, rtol=1e-9)
    loss, same_runs = evaluate(nb.log_variance, process, 16)
    np.testing.assert_allclose(same_runs.log_weight, runs.log_weight, rtol=1e-9)
    np.testing.assert_allclose(loss, 0.5 * np.var(runs.log_weight, ddof=1), rtol=1e-9)


FIXED_BACKWARD = ["PIS", "DDS", "DIS"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXED_BACKWARD)
def test_log_variance_and_reverse_kl_ld_have_one_gradient_against_a_fixed_backward_chain(name):
    """The theorem of Sanokowski et al. (2025), for the control: batch by batch, to rounding.

    With the leave-one-out baseline the two are one estimator. Noise and
    initial distribution, which both chains read, have two gradients: see the next test.
    """
    process, control = catalogue.untrained(name), columns_of(name, lambda p: p.control)
    log_derivative, log_variance = (
        gradients(objective, jax.random.key(2), process, 3, 16)[:, control]
        for objective in (nb.reverse_kl_ld, nb.log_variance)
    )
    scale = float(jnp.max(jnp.abs(log_derivative)))
    assert scale > 0.01
    np.testing.assert_allclose(log_variance, log_derivative, atol=1e-11 * scale)


@pytest.mark.parametrize("name", ["DDS", "DIS"])
def test_learned_noise_has_two_gradients(name):
    """Far from the optimum, where the two losses differ, and not so far that noise hides it."""
    noise = columns_of(name, lambda p: p.diffusion)
    one, other = (many_gradients(o, name)[:, noise] for o in ("log_variance", "reverse_kl_ld"))
    assert np.max(np.abs(z_scores(one, other))) > 8


@pytest.mark.parametrize("name", ["CMCD", "DBS"])
def test_log_variance_has_another_gradient_where_the_backward_chain_learns(name):
    z = z_scores(many_gradients("log_variance", name), many_gradients("reverse_kl_ld", name))
    assert np.max(np.abs(z)) > 8


@pytest.mark.parametrize("objective", [nb.reverse_kl_ld, nb.log_variance, nb.forward_kl])
def test_losses_that_compare_trajectories_refuse_a_single_one(objective):
    with pytest.raises(ValueError, match="at least .*num_trajectories|num_trajectories.*at least"):
        objective(jax.random.key(0), catalogue.untrained("CMCD"), TARGET, num_trajectories=1)


def test_draws_that_are_no_draws_are_refused_before_anything_is_trained(as_users):
    not_finite, none = jnp.full((3, 2), jnp.nan), jnp.zeros((0, 2))
    by_site = {"x": jnp.zeros((3, 2))}
    for positions, message in (
        (not_finite, "hold 6 numbers"),
        (none, "should have shape"),
        (by_site, "got values by site"),
    ):
        with pytest.raises(ValueError, match=f"positions .*{message}"):
            nb.forward_kl_from_draws(positions)
    other = nb.mixed((0.5, nb.reverse_kl_ld), (0.5, nb.forward_kl_from_draws(jnp.zeros((4, 3)))))
    with pytest.raises(ValueError, match=r"positions should have shape \(num, 2\)"):
        evaluate(other, catalogue.untrained("CMCD"), 16)
