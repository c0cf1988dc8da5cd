"""Losses over several charts: what is reported is the bound of the whole, whatever the loss."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import numpyro_bridge as nb
from numpyro_bridge.atlas.seen_target import pieces_of, seen_through, view_of, without_padding
from numpyro_bridge.atlas.stacked import row, stack
from numpyro_bridge.objectives import OverCharts
from numpyro_bridge.trajectories import simulate_many
from tests import catalogue
from tests.mixtures import atlas_of, mixture, normals_at
from tests.statistics import assert_same_mean

KNOWN = mixture([1.4, 0.6], [[-1.0, 0.0], [2.0, 1.0]], [0.8, [[0.7, 0.0], [0.3, 1.0]]])
SHARE = np.asarray([0.4, 0.6])
"""Of the draws that each chart makes; the masses are others."""
CHARTS = normals_at([[-0.8, 0.1], [1.9, 0.8]], [0.9, [[0.9, 0.0], [0.2, 1.1]]])

LOSSES = {
    **catalogue.OBJECTIVES,
    "forward_kl_from_draws": nb.forward_kl_from_draws(KNOWN.draw(jax.random.key(5), 200)),
    "trajectory_balance": nb.trajectory_balance,
    "sub_trajectory_balance": nb.sub_trajectory_balance,
}

MAKERS = {
    "trajectory_balance": nb.objectives.with_log_evidence,
    "sub_trajectory_balance": partial(nb.objectives.with_log_flow, width=8),
}


def charted(bridged: bool = True):
    return atlas_of(CHARTS, np.log(SHARE)).target(KNOWN.target, bridged=bridged)


def processes_for(loss: str):
    """One process for every chart, stacked, at random parameters."""
    make = MAKERS.get(loss, lambda process: process)(catalogue.PROCESSES["CMCD"])
    both = [eqx.filter_jit(make)(jax.random.key(seed), 2) for seed in (1, 2)]
    return catalogue.perturbed(jax.random.key(3), stack(both))


@eqx.filter_jit
def evaluated(loss, rng_key, processes, target, num_trajectories):
    return OverCharts(loss)(rng_key, processes, target, num_trajectories=num_trajectories)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_that_of_every_chart_by_its_share(name, key):
    """Each chart alone has the same loss, gradient and trajectories; padding changes nothing."""
    loss, processes, target = LOSSES[name], processes_for(name), charted()
    assert len(target.log_share) > target.num_charts

    @eqx.filter_jit
    @partial(eqx.filter_value_and_grad, has_aux=True)
    def together(processes):
        return OverCharts(loss)(key, processes, target, num_trajectories=17)

    @eqx.filter_jit
    @partial(eqx.filter_value_and_grad, has_aux=True)
    def alone(process, piece, key):
        return loss(key, process, piece, num_trajectories=8)

    (value, report), gradient = together(processes)
    # One program for both charts.
    keys, pieces = jax.random.split(key, 2), pieces_of(target)
    each = [alone(row(processes, k), pieces[k], keys[k]) for k in range(2)]
    expected = sum(share * value for share, ((value, _), _) in zip(SHARE, each, strict=True))
    log_weights = [runs.log_weight for (_, runs), _ in each]
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(report.runs.log_weight, log_weights, rtol=1e-9, atol=1e-9)
    by_chart = [
        jax.tree.map(lambda leaf: share * leaf, gradient)  # noqa: B023
        for share, (_, gradient) in zip(SHARE, each, strict=True)
    ]
    gradient, by_hand = ravel_pytree(gradient)[0], ravel_pytree(stack(by_chart))[0]
    assert np.linalg.norm(by_hand) > 1e-3
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-7, atol=1e-8 * np.max(np.abs(by_hand)))


def test_what_is_reported_are_the_weighted_moments_of_all_trajectories(key):
    processes, target = processes_for("reverse_kl"), charted()
    _, report = evaluated(nb.reverse_kl, key, processes, target, 64)
    metrics = nb.training.TrajectoryMetrics.of(report, jnp.zeros(()))
    log_weight, weight = [], []
    for k, (piece, one) in enumerate(zip(pieces_of(target), jax.random.split(key, 2), strict=True)):
        runs = eqx.filter_jit(simulate_many)(one, row(processes, k), piece, 32)
        log_weight += list(np.asarray(runs.log_weight) - np.log(SHARE[k]))
        weight += [SHARE[k] / 32] * 32
    mean = partial(np.average, weights=weight)
    elbo = mean(log_weight)
    np.testing.assert_allclose(metrics.elbo, elbo)
    np.testing.assert_allclose(metrics.log_weight_sd, np.sqrt(mean((log_weight - elbo) ** 2)))
    np.testing.assert_allclose(
        metrics.ess, mean(np.exp(log_weight)) ** 2 / mean(np.exp(2 * np.asarray(log_weight)))
    )
    assert metrics.num_non_finite == 0
    np.testing.assert_allclose(np.sum(report.share), 1.0)


@pytest.mark.parametrize("bridged", [True, False])
def test_the_weights_of_all_charts_add_up_to_the_evidence(bridged, key):
    _, report = evaluated(nb.reverse_kl, key, processes_for("reverse_kl"), charted(bridged), 20_000)
    weight = np.exp(report.log_weight - KNOWN.log_evidence)
    # The charts are strata: a trajectory's part of the sum, and the variance of a stratum's mean.
    error = np.sqrt(np.sum(SHARE**2 * np.var(weight, axis=1) / weight.shape[1]))
    assert abs(np.sum(report.share * weight) - 1) < 4 * error
    elbo = nb.training.TrajectoryMetrics.of(report, jnp.zeros(())).elbo
    assert elbo < KNOWN.log_evidence


def test_a_chart_learns_from_the_draws_that_it_is_responsible_for(key):
    """A mean over exact draws of a piece: the inverse weight is the inverse of its evidence."""
    draws = KNOWN.draw(jax.random.key(1), 20_000)
    target = charted()
    loss, processes = nb.forward_kl_from_draws(draws), processes_for("reverse_kl")
    _, report = evaluated(loss, key, processes, target, 4_000)
    share = np.exp(jax.jit(jax.vmap(target.partition.log_responsibilities))(draws))[:, :2]
    for k in range(2):
        log_evidence = KNOWN.log_evidence + np.log(np.mean(share[:, k]))
        assert_same_mean(np.exp(log_evidence - report.runs.log_weight[k]), 1.0)


def test_every_chart_has_two_trajectories_at_least_and_one_chart_has_the_loss_itself(key):
    processes, target = processes_for("reverse_kl"), charted()
    _, report = evaluated(nb.reverse_kl_ld, key, processes, target, 2)
    assert report.runs.log_weight.shape == (2, 2)
    piece = pieces_of(target)[0]
    first = row(processes, 0)
    value, runs = evaluated(nb.reverse_kl_ld, key, first, piece, 5)
    expected, same = eqx.filter_jit(nb.reverse_kl_ld)(key, first, piece, num_trajectories=5)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(runs.log_weight, same.log_weight)


def test_what_a_loss_needs_besides_is_asked_for_on_charts_too(key):
    processes, target = processes_for("reverse_kl"), charted()
    with pytest.raises(TypeError, match="process=nb.objectives.with_log_evidence.nb.CMCD"):
        OverCharts(nb.trajectory_balance)(key, processes, target, num_trajectories=4)
    replayed = partial(nb.reverse_kl_ld, sampling=nb.objectives.replayed)
    with pytest.raises(TypeError, match="nb.objectives.replayed reads a replay buffer"):
        OverCharts(replayed)(key, processes, target, num_trajectories=8)


@pytest.mark.parametrize("bridged", [True, False])
def test_a_view_without_padding_shows_the_same(bridged):
    target = charted(bridged)
    view = without_padding(view_of(target))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(view))
    same = seen_through(KNOWN.target, view)
    assert same.num_charts == len(same.log_share) == 2
    position = jnp.asarray([0.3, 0.4])
    for ours, theirs in zip(pieces_of(same), pieces_of(target), strict=True):
        np.testing.assert_allclose(ours.log_density(position), theirs.log_density(position))
    alone = pieces_of(target)[0]
    assert without_padding(view_of(alone)) is alone.map
    assert seen_through(alone.base, view_of(alone)).map is alone.map
