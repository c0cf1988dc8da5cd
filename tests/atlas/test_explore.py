"""Exploration finds every mode there is, says whether it is done, and works where there is none."""

import importlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.tree_util import Partial

from numpyro_bridge.atlas import explore
from numpyro_bridge.atlas.hiding import why_modes_may_hide
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.stacked import row, stack
from numpyro_bridge.target import target_from_log_density, target_from_model
from tests.mixtures import mixture


@pytest.mark.slow
def test_three_separated_modes_are_all_found():
    masses, places = [0.5, 0.3, 0.2], [[0.0, 0.0], [40.0, -10.0], [-20.0, 60.0]]
    known = mixture(masses, places, [1.0, 2.0, 0.5])
    seen = explore(jax.random.key(0), known.target)
    np.testing.assert_allclose(seen.normals.location, places, atol=1e-4)
    np.testing.assert_allclose(seen.log_mass, known.log_mass, atol=1e-5)
    np.testing.assert_allclose(seen.normals.factor, known.normals.factor, atol=1e-4)
    assert seen.settled and seen.num_new == 0
    assert sum(seen.num_at_place) <= seen.num_climbs < seen.num_gradient_evaluations
    again = explore(jax.random.key(0), known.target)
    jax.tree.map(np.testing.assert_array_equal, seen, again)
    # With one round nobody knows whether there is more.
    assert not explore(jax.random.key(0), known.target, max_rounds=1).settled


def centred_hierarchy(x):
    """Two effects and the log of their scale, which has a half-normal prior: it has no top."""
    return -x[0] - 0.5 * jnp.exp(2 * x[0]) - 0.5 * jnp.sum((x[1:] * jnp.exp(-x[0])) ** 2)


@pytest.mark.slow
def test_a_density_without_tops_gives_normal_distributions_all_the_same():
    seen = explore(jax.random.key(1), target_from_log_density(centred_hierarchy, 3), max_rounds=1)
    assert len(seen.log_mass) == len(seen.num_at_place) == len(seen.normals.location) >= 1
    assert np.all(np.isfinite(seen.log_mass)) and np.all(np.isfinite(seen.normals.factor))
    # The masses are bounds on the evidence, 2 pi sqrt(pi / 2), up to their Monte Carlo error.
    assert np.max(seen.log_mass) < np.log(2 * np.pi * np.sqrt(np.pi / 2)) + 0.3


@pytest.mark.slow
def test_a_narrow_mode_beside_a_wide_one_is_found_by_probes():
    """It fills one part in ten thousand of the volume where climbs begin, in eight dimensions."""
    masses, places = [0.8, 0.2], [np.zeros(8), np.full(8, 4.0)]
    known = mixture(masses, places, [2.0, 0.7])
    seen = explore(jax.random.key(2), known.target)
    assert len(seen.log_mass) == 2 and seen.settled
    np.testing.assert_allclose(seen.log_mass, known.log_mass, atol=1e-3)
    assert not explore(jax.random.key(2), known.target, max_rounds=1).settled


@pytest.mark.slow
def test_a_narrow_mode_inside_the_shell_of_the_prior_is_found(key):
    """No draw of the prior comes near it, and climbs from them lead to the two wide modes."""
    first, second, third = (
        10.0 * np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0][:3]
    )
    places = [first, 0.3 * second - first, 0.5 * third]
    known = mixture([0.5, 0.3, 0.2], places, [2.0, 2.0, 0.6])

    def in_a_box():
        box = dist.Uniform(-30.0, 30.0).expand([10]).to_event(1)
        numpyro.factor("modes", known.target.log_density(numpyro.sample("x", box)))

    seen = explore(key, target_from_model(key, in_a_box))
    assert len(seen.log_mass) == 3 and seen.settled
    np.testing.assert_allclose(seen.log_mass, known.log_mass - 10 * np.log(60.0), atol=0.05)


def modes_target(dim: int, df: float):
    """Six modes, six standard deviations from the centre: normal ones, or of Student tails."""
    density = Partial(_modes, jnp.asarray(min(df, 1e12)), jnp.asarray(np.isinf(df)))
    return target_from_log_density(density, dim)


def _modes(df, is_normal, x):
    """Both kinds of modes in one program."""
    square = jnp.sum((x - 12.0 * jnp.eye(6, x.size)) ** 2, axis=1)
    heavy = -0.5 * (df + x.size) * jnp.log1p(square / df)
    return jax.nn.logsumexp(jnp.where(is_normal, -0.5 * square, heavy))


@pytest.mark.slow
@pytest.mark.parametrize("dim, df, hides", [(10, 5.0, True), (10, np.inf, False), (6, 5.0, False)])
def test_heavy_tails_of_many_modes_may_hide_a_light_one(key, dim, df, hides):
    found = explore(key, modes_target(dim, df))
    assert len(found.log_mass) == 6
    assert ("heavy tails" in found.may_hide) == hides


@pytest.mark.parametrize("num_places", [0, 1])
def test_climbs_that_hardly_ever_arrive_are_a_reason_for_doubt_in_many_dimensions(key, num_places):
    def why(dim, share_arrived):
        places = row(stack([DenseMap(jnp.zeros(dim), jnp.eye(dim))]), slice(num_places))
        target = target_from_log_density(lambda x: -0.5 * x @ x, dim)
        return why_modes_may_hide(key, target, places, share_arrived)

    assert "90% of the first climbs were still on the way" in why(12, 0.1)
    assert why(12, 0.5) == why(8, 0.1) == ""


@pytest.mark.fast
@pytest.mark.parametrize(
    ("shares", "most", "num_turns"),
    [
        ([0.6], 12, 1),  # most arrive at once
        ([0.0, 0.0, 0.0], 12, 3),  # as in a funnel, which has no top
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.81], 12, 8),
        ([0.0, 0.1, 0.2], 2, 3),
    ],
)
def test_climbs_go_on_while_more_of_them_arrive(
    as_users, monkeypatch, key, shares, most, num_turns
):
    module = importlib.import_module("numpyro_bridge.atlas.explore")
    turns = []

    def climbs(_rng_key, _target, starts):
        arrived = np.arange(100) < 100 * shares[len(turns)]
        turns.append(starts)
        return SimpleNamespace(
            arrived=arrived,
            num_evaluations=np.full(100, 7),
            normals=SimpleNamespace(location=starts + 1),
        )

    monkeypatch.setattr(module, "climb_from", climbs)
    _, spent, share = module._until_most_arrive(key, None, np.zeros((100, 3)), most)
    assert len(turns) == num_turns and spent == 700 * num_turns and share == shares[0]
    # Each turn starts where the one before has ended.
    assert [float(starts[0, 0]) for starts in turns] == list(range(num_turns))


@pytest.mark.slow
def test_without_a_prior_probes_find_a_mode_that_is_far_from_zero_in_many_dimensions():
    """All climbs start around zero, where the gradient leads to the other one."""
    masses, places = [0.5, 0.5], [np.zeros(100), np.full(100, 15.0)]
    seen = explore(jax.random.key(0), mixture(masses, places, [1.0, 1.0]).target)
    assert sorted(np.round(seen.normals.location[:, 0])) == [0.0, 15.0] and seen.settled
    np.testing.assert_allclose(seen.log_mass, np.log(0.5), atol=1e-4)
