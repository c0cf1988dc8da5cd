"""The witness sees mass that charts do not cover, and nothing where they cover everything."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from numpyro_bridge.atlas import Witness, temper
from numpyro_bridge.atlas.judge import judge
from numpyro_bridge.atlas.particles import Particles
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.witness import uncovered_by, witness_of
from numpyro_bridge.target import target_from_log_density, target_from_model
from tests.mixtures import mixture

KNOWN = mixture([0.7, 0.3], [[0.0, 0.0], [9.0, 0.0]], [1.0, 0.5])


@functools.cache
def seen_with(num_charts: int):
    """What the draws of the first charts say."""
    maps = KNOWN.maps[:num_charts]
    return judge(jax.random.key(0), KNOWN.target, maps, np.zeros(num_charts))


def exact_witness() -> Witness:
    return Witness(np.asarray(KNOWN.draw(jax.random.key(1), 400)))


def test_particles_in_a_mode_without_a_chart_are_uncovered():
    witness = exact_witness()
    assert seen_with(1).good  # which the draws themselves cannot say
    uncovered = uncovered_by(jax.random.key(2), KNOWN.target, seen_with(1), witness)
    assert np.all(uncovered[:, 0] > 6)
    assert len(uncovered) == pytest.approx(0.3 * 400, abs=4.5 * (400 * 0.21) ** 0.5)


def test_with_a_chart_on_each_mode_none_is_uncovered():
    uncovered = uncovered_by(jax.random.key(2), KNOWN.target, seen_with(2), exact_witness())
    assert uncovered.shape == (0, 2)


def test_without_particles_nothing_is_uncovered():
    absent = Witness.absent("none was asked for")
    assert uncovered_by(jax.random.key(2), KNOWN.target, seen_with(1), absent).shape == (0, 2)


def test_tempered_particles_find_both_modes_from_charts_on_both():
    particles = temper(jax.random.key(3), KNOWN.target, KNOWN.normals, seen_with(2))
    assert isinstance(particles, Particles)
    witness = witness_of(particles)
    assert witness.position is not None and witness.log_evidence is not None
    assert witness.position.shape == (1_024, 2)
    assert witness.log_evidence == pytest.approx(KNOWN.log_evidence, abs=0.3)
    assert np.mean(witness.position[:, 0] < 6) == pytest.approx(0.7, abs=0.08)
    assert len(uncovered_by(jax.random.key(4), KNOWN.target, seen_with(2), witness)) == 0


def test_charts_without_mass_need_a_prior_to_temper_from():
    """Particles see most where charts see nothing."""
    nothing = seen_with(1)._replace(log_mass=np.array([-np.inf]))
    why = temper(jax.random.key(3), KNOWN.target, row(KNOWN.normals, slice(1)), nothing)
    assert why == "no chart carries any mass"
    model = target_from_model(jax.random.key(0), two_numbers)
    particles = temper(jax.random.key(3), model, row(KNOWN.normals, slice(1)), nothing)
    assert isinstance(particles, Particles)
    assert particles.log_evidence == pytest.approx(0.0, abs=0.1)


def two_numbers():
    """Two standard normal numbers, and no data."""
    numpyro.sample("x", dist.Normal(0, 1).expand([2]).to_event(1))


@pytest.mark.fast
def test_particles_with_weights_become_particles_without():
    log_weight = jnp.log(jnp.asarray([0.05, 0.5, 0.2, 0.25])) + 30.0
    position = jnp.arange(4.0)[:, None]
    witness = witness_of(Particles(position, log_weight, 3, 100, -1.5, 0.1))
    assert witness.position is not None
    assert witness.position[:, 0].tolist() == [1.0, 1.0, 2.0, 3.0]
    assert (witness.log_evidence, witness.log_evidence_error) == (-1.5, 0.1)
    assert witness.num_gradient_evaluations == 100
    absent = witness_of("there was a reason")
    assert absent.position is None and absent.reason == "there was a reason"


@pytest.mark.fast
def test_where_tempering_would_cost_too_much_the_reason_is_given():
    target = target_from_log_density(lambda x: -x @ x, 101)
    reason = temper(jax.random.key(0), target, row(KNOWN.normals, slice(1)), seen_with(1))
    assert reason == "the posterior has more than 100 dimensions"


@pytest.mark.slow
def test_where_groups_of_particles_disagree_more_of_them_are_tempered(monkeypatch):
    sizes = {"num_particles": 64, "most_particles": 128}
    few = temper(jax.random.key(3), KNOWN.target, KNOWN.normals, seen_with(2), **sizes)
    assert isinstance(few, Particles) and len(few.position) == 64
    module = importlib.import_module("numpyro_bridge.atlas.witness")
    monkeypatch.setattr(module, "DISAGREEMENT", few.log_evidence_error / 2)
    more = temper(jax.random.key(3), KNOWN.target, KNOWN.normals, seen_with(2), **sizes)
    assert isinstance(more, Particles) and len(more.position) == 128
    assert more.num_gradient_evaluations > 2 * few.num_gradient_evaluations
