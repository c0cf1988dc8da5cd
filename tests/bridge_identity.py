"""The identity that both chains of a bridge obey at any parameters, and the cases it is run on."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp

import numpyro_bridge as nb
from numpyro_bridge.trajectories.simulate import simulate_many
from numpyro_bridge.trajectories.trajectory import Trajectory
from tests import catalogue, targets
from tests.statistics import assert_same_mean

NUM = 50_000

TARGETS = {
    "conjugate normal": targets.conjugate_normal,
    "skewed": targets.skewed,
    "two modes": targets.two_modes,
}

USUAL = {
    process: "conjugate normal" if process == catalogue.FROM_PRIOR else "skewed"
    for process in catalogue.PROCESSES
}

PAIRS = [
    *USUAL.items(),
    ("CMCD", "conjugate normal"),
    ("CMCD from a mixture", "two modes"),
    ("DBS from a mixture", "two modes"),
]

known_target = functools.cache(lambda name: TARGETS[name]())


@eqx.filter_jit
def run_both(rng_key, process, target, exact_draws) -> tuple[Trajectory, Trajectory]:
    """Trajectories of the forward chain, and of the backward chain from exact draws."""
    forward_key, backward_key = jax.random.split(rng_key)
    backward = jax.vmap(nb.trajectories.simulate_backward, in_axes=(0, None, None, 0))
    keys = jax.random.split(backward_key, NUM)
    return (
        simulate_many(forward_key, process, target, NUM),
        backward(keys, process, target, exact_draws),
    )


def run_known(process, known: targets.Known) -> tuple[Trajectory, Trajectory]:
    draw_key, run_key = jax.random.split(jax.random.key(3))
    return run_both(run_key, process, known.target, known.draw(draw_key, NUM))


@functools.cache
def runs_of(process: str, target: str) -> tuple[Trajectory, Trajectory]:
    return run_known(catalogue.untrained(process), known_target(target))


def features(runs: Trajectory):
    """Bounded functions of a path: the constant, the length of its steps, its start and its end."""
    path = runs.states.position
    steps = jnp.mean(jnp.diff(path, axis=1) ** 2, axis=(1, 2))
    ends = [bounded_moments(path[:, 0]), bounded_moments(path[:, -1])]
    return jnp.concatenate([jnp.ones((len(path), 1)), jnp.tanh(steps)[:, None], *ends], axis=1)


def bounded_moments(x):
    """Bounded moments of positions in two dimensions, with widths along and across a diagonal."""
    along, across = x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]
    return jnp.tanh(jnp.stack([*x.T, across, across**2, along**2 / 9], axis=1))


def assert_bridge_identity(runs: tuple[Trajectory, Trajectory], log_evidence: float) -> None:
    """`E_forward[h sigmoid(l)] = E_backward[h sigmoid(-l)]`, `l` the normalised log weight.

    It holds for any function `h` of the path, since `p_forward sigmoid(l)` and
    `p_backward sigmoid(-l)` are the same function. Everything is bounded on both sides, so no tail
    of the weights can hide or fake a difference.
    """
    forward, backward = runs
    on_forward = jax.nn.sigmoid(forward.log_weight - log_evidence)[:, None] * features(forward)
    on_backward = jax.nn.sigmoid(log_evidence - backward.log_weight)[:, None] * features(backward)
    # Both chains visit the same paths: an identity of two zeros would say nothing.
    assert 0.02 < float(jnp.mean(on_forward[:, 0])) < 0.98
    assert_same_mean(on_forward, on_backward)
