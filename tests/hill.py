"""Training without a sampler: a module that climbs a hill, with a loss and settings for it."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import numpyro_bridge as nb
from numpyro_bridge.training import loop as train

NUM = 8
"""Trajectories that the small losses below report on."""


class Hill(eqx.Module):
    """The mean of a unit normal distribution, and a number that only adds to the loss."""

    position: jax.Array
    ground: jax.Array

    def __init__(self, dim=3):
        self.position = jnp.zeros(dim)
        self.ground = jnp.zeros(())


def runs_with(log_weight) -> nb.trajectories.Trajectory:
    """Trajectories with these log weights, and nothing else that a metric reads."""
    flags = jnp.ones((NUM, 1), bool)
    zeros = jnp.zeros((NUM, 1, 1))
    states = nb.target.Point(zeros, zeros[..., 0], zeros, flags)
    return nb.trajectories.Trajectory(states, jnp.zeros(NUM), log_weight)


def climb(rng_key, hill: Hill, top):
    """The negative ELBO for a unit normal at `top`, and the log weights whose mean it is."""
    noise = jax.random.normal(rng_key, (NUM, *hill.position.shape))
    gap = top - hill.position
    cost = 0.5 * gap @ gap + hill.ground**2
    # The gradient is a little noisy, as it would be with more trajectories.
    return cost - 0.1 * gap @ jnp.mean(noise, axis=0), runs_with(noise @ gap - cost)


def climb_on_rough_ground(rng_key, hill: Hill, top):
    """Weights that stay unequal whatever is learned."""
    loss, runs = climb(rng_key, hill, top)
    roughness = jax.random.normal(jax.random.fold_in(rng_key, 1), (NUM,))
    return loss, runs._replace(log_backward=runs.log_backward + roughness)


TOP = jnp.asarray([1.0, -2.0, 0.5])
ADAM = optax.adam(0.05)

fit = partial(train.fit, optimizer=ADAM, tolerance=0.0, progress_bar=False)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def interrupt_after(monkeypatch, num_chunks: int):
    """Press Ctrl-C after `num_chunks` chunks."""
    shown = []

    def show(*_):
        shown.append(None)
        if len(shown) == num_chunks:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Bar, "show", show)


def interrupt_first_of(monkeypatch) -> list:
    """Press Ctrl-C in the first training, and list the trainings that begin."""
    begun, first = [], train._first_memory

    def counted(*args):
        begun.append(None)
        return first(*args)

    monkeypatch.setattr(train, "_first_memory", counted)
    interrupt_after(monkeypatch, 1)
    return begun
