"""Several charts: one log weight of the chart and the path, with the identities of a bridge."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas.stacked import stack
from numpyro_bridge.trajectories.ends import draw_end, draw_path_to
from tests import catalogue
from tests.mixtures import atlas_of, mixture, normals_at
from tests.statistics import assert_same_mean
from tests.targets import each

NUM = 20_000

KNOWN = mixture([1.4, 0.6], [[-1.0, 0.0], [2.0, 1.0]], [0.8, [[0.7, 0.0], [0.3, 1.0]]])
"""Two overlapping normal distributions, twice, so that both charts share what lies between."""

SHARE = [0.4, 0.6]
"""Of the draws that each chart makes; the masses are others."""

CHARTS = normals_at([[-0.8, 0.1], [1.9, 0.8]], [0.9, [[0.9, 0.0], [0.2, 1.1]]])

PROCESSES = {
    "Direct": lambda: stack([nb.processes.Direct(jax.random.key(0), 2)] * 2),
    "CMCD": lambda: stack([catalogue.untrained("CMCD", seed) for seed in (1, 5)]),
}

CASES = [(process, bridged) for process in PROCESSES for bridged in (True, False)]


def charted(bridged: bool):
    return atlas_of(CHARTS, np.log(SHARE)).target(KNOWN.target, bridged=bridged)


@eqx.filter_jit
def run_both(rng_key, processes, target, exact):
    """Ends of the forward chains, and of the backward chains from exact draws."""
    forward_key, backward_key = (jax.random.split(key, NUM) for key in jax.random.split(rng_key))
    return (
        jax.vmap(lambda key: draw_end(key, processes, target))(forward_key),
        jax.vmap(lambda key, x: draw_path_to(key, processes, target, x))(backward_key, exact),
    )


@functools.cache
def ends_of(process: str, bridged: bool):
    draw_key, run_key = jax.random.split(jax.random.key(3))
    exact = KNOWN.draw(draw_key, NUM)
    return run_both(run_key, PROCESSES[process](), charted(bridged), exact)


@pytest.mark.parametrize(("process", "bridged"), CASES)
def test_the_mean_weight_is_the_evidence_both_ways(process, bridged):
    forward, backward = ends_of(process, bridged)
    assert_same_mean(np.exp(forward.log_weight - KNOWN.log_evidence), 1.0)
    assert_same_mean(np.exp(KNOWN.log_evidence - backward.log_weight), 1.0)


@pytest.mark.parametrize(("process", "bridged"), CASES)
def test_both_chains_agree_on_every_function_of_chart_and_end(process, bridged):
    """The identity of `tests.bridge_identity`, where everything is bounded."""
    forward, backward = ends_of(process, bridged)

    def features(end):
        place = jnp.tanh(end.position)
        on_first = (end.chart == 0)[:, None]
        return jnp.concatenate([jnp.ones((NUM, 1)), on_first, place, on_first * place], axis=1)

    on_forward = jax.nn.sigmoid(forward.log_weight - KNOWN.log_evidence)[:, None]
    on_backward = jax.nn.sigmoid(KNOWN.log_evidence - backward.log_weight)[:, None]
    assert 0.02 < np.mean(on_forward) < 0.98
    assert_same_mean(on_forward * features(forward), on_backward * features(backward))


@pytest.mark.parametrize(("process", "bridged"), CASES)
def test_the_density_at_an_end_is_that_of_the_whole_target(process, bridged):
    for end in ends_of(process, bridged):
        assert np.all(end.finite)
        expected = each(KNOWN.target.log_density, end.position)
        np.testing.assert_allclose(end.log_density, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("process", "bridged"), CASES)
def test_charts_are_drawn_by_shares_and_by_responsibilities(process, bridged):
    forward, backward = ends_of(process, bridged)
    assert_same_mean(forward.chart == 1, SHARE[1])
    responsible = each(charted(bridged).partition.log_responsibilities, backward.position)
    assert set(np.unique(backward.chart)) == {0, 1}
    # The difference has mean zero, at every position.
    assert_same_mean((backward.chart == 1) - np.exp(responsible[:, 1]), 0.0)


def test_a_path_back_ends_where_it_was_asked_to():
    _, backward = ends_of("CMCD", True)
    draw_key, _ = jax.random.split(jax.random.key(3))
    np.testing.assert_allclose(backward.position, KNOWN.draw(draw_key, NUM), atol=1e-9)


def test_direct_draws_of_the_charts_own_partition_are_weighted_by_the_whole_mixture():
    """The chart that made a draw does not matter for its weight."""
    forward, backward = ends_of("Direct", False)
    target = charted(False)
    for end in (forward, backward):
        log_mixture = each(target.partition.log_density, end.position) - np.log(2 * np.pi)
        np.testing.assert_allclose(end.log_weight, end.log_density - log_mixture, atol=1e-9)


def test_the_whole_target_is_seen_in_the_moments_of_all_charts():
    whole = charted(True).whole()
    draws = jnp.concatenate(
        [
            jax.vmap(one)(jax.random.normal(jax.random.key(0), (int(share * 50_000), 2)))
            for share, one in zip(SHARE, atlas_of(CHARTS, np.log(SHARE)).maps, strict=True)
        ]
    )
    np.testing.assert_allclose(whole.map.location, np.mean(draws, axis=0), atol=0.05)
    covariance = whole.map.factor @ whole.map.factor.T
    np.testing.assert_allclose(covariance, np.cov(draws.T), atol=0.05)
