"""Identities of every sampler at any parameters: both chains are scored as they are sampled."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.processes.base import State
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.target.clipped import ClippedScore
from numpyro_bridge.trajectories.simulate import simulate_states
from tests import catalogue
from tests.bridge_identity import (
    PAIRS,
    USUAL,
    assert_bridge_identity,
    known_target,
    run_known,
    runs_of,
)
from tests.statistics import assert_mean_at_most, assert_same_mean

every_process = pytest.mark.parametrize("process", catalogue.some_fast(catalogue.PROCESSES))
every_pair = pytest.mark.parametrize(("process", "target"), catalogue.some_fast(PAIRS))


@pytest.mark.slow
@every_pair
def test_bridge_identity(process, target):
    assert_bridge_identity(runs_of(process, target), known_target(target).log_evidence)


class Wider(AbstractKernel):
    """Samples five percent wider than it scores."""

    inner: Gaussian

    def sample(self, rng_key):
        mean, scale, target = self.inner.mean, self.inner.scale, self.inner.target
        return Gaussian(mean, 1.05 * scale, target).sample(rng_key)

    def log_prob(self, point):
        return self.inner.log_prob(point)


class Broken(nb.processes.AbstractProcess):
    """A process with one chain that is sampled otherwise than it is scored."""

    inner: nb.processes.AbstractProcess
    chain: str = eqx.field(static=True)

    def __init__(self, inner, chain):
        self.inner = inner
        self.chain = chain

    @property
    def num_steps(self):
        return self.inner.num_steps

    def start(self, target):
        return self.inner.start(target)

    def controls(self, step, point):
        return self.inner.controls(step, point)

    def forward(self, step, state, target):
        kernel = self.inner.forward(step, state, target)
        assert isinstance(kernel, Gaussian)
        return Wider(kernel) if self.chain == "forward" else kernel

    def backward(self, step, state, target):
        kernel = self.inner.backward(step, state, target)
        assert isinstance(kernel, Gaussian)
        return Wider(kernel) if self.chain == "backward" else kernel


@pytest.mark.parametrize("chain", ["forward", "backward"])
def test_bridge_identity_notices_a_kernel_five_percent_wider_than_its_score(chain):
    process = Broken(catalogue.untrained("CMCD"), chain)
    known = known_target("skewed")
    with pytest.raises(AssertionError, match="standard errors"):
        assert_bridge_identity(run_known(process, known), known.log_evidence)


@pytest.mark.slow
@every_process
def test_a_trajectory_is_the_same_however_it_is_scored(process):
    """`rescore` gives the numbers of `simulate`, `simulate_states` its states."""
    known, process = known_target(USUAL[process]), catalogue.untrained(process)
    target = process.prepared(known.target)

    @jax.vmap
    def three_ways(key):
        run = nb.trajectories.simulate(key, process, target)
        return (
            run,
            nb.trajectories.rescore(process, target, run.states),
            simulate_states(key, process, target),
        )

    run, rescored, states = jax.jit(three_ways)(jax.random.split(jax.random.key(0), 50))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, rescored, run)
    jax.tree.map(close, states, run.states)


@every_pair
def test_bounds_hold_on_both_sides(process, target):
    (forward, backward), log_evidence = runs_of(process, target), known_target(target).log_evidence
    assert_mean_at_most(forward.log_weight, log_evidence)
    assert_mean_at_most(-backward.log_weight, -log_evidence)


# Unlike the identity above, the mean of a weight is a check only where its variance is finite. A
# Langevin step without control has heavy weights in the tails of the skewed target.
@pytest.mark.parametrize(
    ("process", "target"), [pair for pair in PAIRS if pair[0].startswith(("CMCD", "DBS"))]
)
def test_mean_weight_is_the_evidence(process, target):
    (forward, _), log_evidence = runs_of(process, target), known_target(target).log_evidence
    assert_same_mean(jnp.exp(forward.log_weight - log_evidence), 1.0)


def test_a_clipped_score_is_seen_by_both_chains():
    """A score that is cut changes the chains, not the meaning of the weights."""
    known = known_target("skewed")
    clipped = dataclasses.replace(known, target=ClippedScore(known.target, bound=0.5))
    process = nb.CMCD(jax.random.key(1), 2, **catalogue.SMALL)
    runs = run_known(catalogue.perturbed(jax.random.key(2), process, 0.1), clipped)
    lengths = jnp.sqrt(jnp.mean(runs[0].states.score ** 2, axis=-1))
    assert float(jnp.max(lengths)) < 0.5 + 1e-9
    assert float(jnp.mean(lengths > 0.5 - 1e-9)) > 0.1  # the bound is met
    assert_bridge_identity(runs, known.log_evidence)


def test_a_state_holds_a_point_and_what_was_learned_there():
    known = known_target("skewed")
    process = catalogue.untrained("DBS")
    point = known.target.at(jnp.asarray([0.1, -0.2]))
    state = State(point, process.controls(jnp.asarray(1), point))
    forward = process.forward(jnp.asarray(1), state, known.target)
    backward = process.backward(jnp.asarray(1), state, known.target)
    diffusion = process.diffusion(jnp.asarray(1))
    np.testing.assert_allclose(forward.scale, diffusion)
    np.testing.assert_allclose(backward.scale, diffusion)
    moved = point.position + diffusion**2 * state.controls.forward
    np.testing.assert_allclose(forward.mean, moved)
    assert not np.allclose(forward.mean, backward.mean)


def test_processes_refuse_what_is_no_bridge():
    for process in (nb.CMCD, nb.DBS, nb.PIS, nb.DDS, nb.DIS, nb.MCD, nb.AnnealedLangevin):
        with pytest.raises(ValueError, match="num_steps must be a whole number >= 1.*got 0"):
            process(jax.random.key(0), 2, num_steps=0)
        with pytest.raises(ValueError, match="diffusion must be a positive number.*got 0"):
            process(jax.random.key(0), 2, diffusion=0.0)
    for process in (nb.UnderdampedCMCD, nb.UnderdampedDBS, nb.UnderdampedDIS, nb.UHA, nb.LDVI):
        with pytest.raises(ValueError, match="num_steps must be a whole number >= 1.*got 0"):
            process(jax.random.key(0), 2, num_steps=0)
        with pytest.raises(ValueError, match="friction must be a positive number.*got 0"):
            process(jax.random.key(0), 2, friction=0.0)
