"""Annealed moves, which need no training: in place of a bend, and on several charts."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas import bend_charts
from numpyro_bridge.atlas.chart import chart
from numpyro_bridge.atlas.explore import explore
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.annealed import annealed_on_charts, moves_suffice
from numpyro_bridge.trajectories.ends import draw_end
from tests.statistics import assert_same_mean
from tests.targets import HEAVY, normal, two_modes

DIM = 30
STANDARD = normal(np.zeros(2), np.eye(2))


def skewed_in_every_direction(shape: float = 2.0):
    """The logarithms of independent Gamma variables: no direction is worth a bend."""
    return nb.target_from_log_density(lambda x: shape * jnp.sum(x - jnp.exp(x)), DIM)


def wide(scale: float) -> StandardisedTarget:
    """A standard normal distribution in two dimensions, seen through a map of another scale."""
    return StandardisedTarget(STANDARD.target, DenseMap(jnp.zeros(2), scale * jnp.eye(2)))


@pytest.mark.parametrize("enough", [True, False])
def test_a_single_chart_is_bent_where_moves_are_not_enough(key, enough, monkeypatch):
    target = skewed_in_every_direction()
    seen = explore(key, target, max_rounds=1)
    asked, bent = [], []

    def answer(rng_key, target, transform, log_weight):
        asked.append(type(transform))
        return enough, 1_000_000_000

    def bend(rng_key, target, partition, affine, share, known, known_gap, fit, *, again):
        bent.extend(affine)
        return affine, 7

    monkeypatch.setattr(bend_charts, "_bent", bend)
    atlas = chart(key, target, seen, temper=None, max_rounds=1, moves_suffice=answer)
    assert asked == [DenseMap]
    assert len(bent) == (0 if enough else 1)
    assert atlas.num_gradient_evaluations > 1_000_000_000


def test_moves_are_enough_for_many_small_skews_and_not_for_one_narrow_neck(key):
    target = skewed_in_every_direction(20.0)
    fitted = explore(key, target, max_rounds=1).normals
    transform = jax.tree.map(lambda leaf: leaf[0], fitted)
    small, few = 0.6 * np.random.default_rng(0).normal(size=(2, 4_096))
    assert moves_suffice(key, target, transform, small)[0]
    few[:3] = 5.0
    assert not moves_suffice(key, target, transform, few)[0]


EQUAL = np.array([0.5, 0.5])


def test_charts_have_steps_in_common_and_their_evidence_is_exact(key):
    pieces = [wide(0.6), wide(1.0)]
    processes, spent = annealed_on_charts(key, pieces, EQUAL)
    assert processes is not None and spent > 0
    assert len({process.num_steps for process in processes}) == 1

    @eqx.filter_jit
    def weights(process, piece):
        keys = jax.random.split(jax.random.key(1), 2_000)
        ends = jax.vmap(draw_end, (0, None, None))(keys, process, piece)
        return jnp.exp(ends.log_weight)

    for process, piece in zip(processes, pieces, strict=True):
        assert_same_mean(weights(process, piece), np.exp(STANDARD.log_evidence))


def test_moves_are_refused_where_no_chart_or_a_hopeless_one_is_to_blame(key):
    assert annealed_on_charts(key, [wide(1.0), wide(1.0)], EQUAL).processes is None
    assert annealed_on_charts(key, [wide(1.0), wide(0.003)], EQUAL).processes is None
    hopeless = [wide(0.6), wide(0.003)]
    assert annealed_on_charts(key, hopeless, EQUAL).processes is None
    # Unless it is so light that nobody would notice.
    assert annealed_on_charts(key, hopeless, np.array([1 - 1e-4, 1e-4])).processes is not None


def test_charts_that_are_too_wide_are_mended_without_training(key):
    """The evidence and the masses of two modes by moves on both charts."""
    known = two_modes(6.0)

    def too_wide(rng_key, target, exploration):
        atlas = chart(rng_key, target, exploration, temper=None)
        maps = [DenseMap(one.location, 1.7 * one.factor) for one in atlas.maps]
        return replace(atlas, maps=tuple(maps), ess=0.3)

    sampler = nb.BridgeSampler(known.target, charts=too_wide, progress_bar=False)
    posterior = sampler.run(key)
    assert isinstance(posterior.process, nb.UHA)
    assert posterior.report.objective is None and posterior.atlas.num_charts == 2
    draws = posterior.sample(jax.random.key(1), 4_000)
    assert abs(draws.log_evidence - known.log_evidence) < 4 * draws.log_evidence_error
    assert draws.log_evidence_error < 0.02
    weight = np.exp(np.asarray(draws.log_weight) - draws.log_evidence)
    on_the_heavy_side = np.asarray(draws.sites["x"])[:, 0] > 0
    # With two modes far apart the share of one is the mean of a weight that is zero elsewhere.
    assert_same_mean(weight * on_the_heavy_side, HEAVY)
