"""Run the two chains of a process: forward from its start, or backward from a given end."""

from typing import Any

import jax
import jax.numpy as jnp

from numpyro_bridge._core.checks import check_count
from numpyro_bridge._core.devices import divide
from numpyro_bridge._core.precision import check_precision
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.base import check_position
from numpyro_bridge.trajectories.arguments import check_chains
from numpyro_bridge.trajectories.rescore import log_target, rescore, rescore_held
from numpyro_bridge.trajectories.trajectory import Trajectory


def simulate(rng_key: RNGKey, process: AbstractProcess[Any], target: Target) -> Trajectory:
    """Run the forward chain once and score it under both chains; differentiable throughout.

    >>> run = nb.trajectories.simulate(key, process, target)
    >>> run.states.position.shape
    (5, 2)

    Args:
        rng_key: Randomness of the whole path.
        process: The two chains.
        target: The density, unnormalised. Both chains see it with scores of bounded length.

    Raises:
        ValueError: if the process was made in another precision than the present one.
    """
    check_chains(rng_key, process, target)
    check_precision(process)
    target = process.prepared(target)
    keys = jax.random.split(rng_key, process.num_steps + 1)
    initial = process.start(target)
    first = initial.sample(keys[0])

    def advance(state: State[Any], step_and_key):
        step, key = step_and_key
        kernel = process.forward(step, state, target)
        point = kernel.sample(key)
        following = State(point, process.controls(step + 1, point))
        reverse = process.backward(step, following, target)
        return following, (point, kernel.log_prob(point), reverse.log_prob(state.point))

    start = State(first, process.controls(jnp.asarray(0), first))
    steps = jnp.arange(process.num_steps)
    _, (points, forwards, backwards) = jax.lax.scan(advance, start, (steps, keys[1:]))
    states = _prepend(first, points)
    return Trajectory(
        states,
        initial.log_prob(first) + jnp.sum(forwards),
        log_target(process, jax.tree.map(lambda x: x[-1], states)) + jnp.sum(backwards),
    )


def simulate_states(rng_key: RNGKey, process: AbstractProcess[Any], target: Target) -> Point:
    """The states that `simulate` visits for the same key, without log densities.

    `rescore` adds the log densities afterwards.
    """
    target = process.prepared(target)
    keys = jax.random.split(rng_key, process.num_steps + 1)
    first = process.start(target).sample(keys[0])

    def advance(point: Point, step_and_key):
        step, key = step_and_key
        state = State(point, process.controls(step, point))
        point = process.forward(step, state, target).sample(key)
        return point, point

    steps = jnp.arange(process.num_steps)
    _, points = jax.lax.scan(advance, first, (steps, keys[1:]))
    return _prepend(first, points)


def simulate_backward(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, position: Vector
) -> Trajectory:
    """Run the backward chain from a position of the target, and score it under both chains.

    >>> run = nb.trajectories.simulate_backward(key, process, target, jnp.zeros(2))
    >>> run.states.position[-1].tolist()
    [0.0, 0.0]

    With positions drawn from the normalised target the mean log weight is the EUBO, an upper bound
    on the log evidence.

    Args:
        rng_key: Randomness of the whole path.
        process: The two chains.
        target: The density, unnormalised. Both chains see it with scores of bounded length.
        position: Where the path ends, shape `(dim,)`, in the coordinates of `target`.

    Raises:
        ValueError: if the process was made in another precision than the present one.
    """
    check_chains(rng_key, process, target)
    check_position(position, target.dim)
    check_precision(process)
    target = process.prepared(target)
    last = target.at(position)
    keys = jax.random.split(rng_key, process.num_steps + 1)
    extension = process.extension(last)
    last = last if extension is None else extension.sample(keys[0])

    def retreat(point: Point, step_and_key):
        step, key = step_and_key
        state = State(point, process.controls(step + 1, point))
        point = process.backward(step, state, target).sample(key)
        return point, point

    steps = jnp.arange(process.num_steps)
    _, points = jax.lax.scan(retreat, last, (steps, keys[1:]), reverse=True)
    return rescore(process, target, _append(points, last))


def simulate_many(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, num_trajectories: int
) -> Trajectory:
    """`simulate` for `num_trajectories` independent trajectories; the leading axis counts them.

    >>> runs = nb.trajectories.simulate_many(key, process, target, 8)
    >>> runs.log_weight.shape
    (8,)
    """
    check_chains(rng_key, process, target)
    num_trajectories = check_count("num_trajectories", num_trajectories, 1)
    keys = divide(jax.random.split(rng_key, num_trajectories))
    return jax.vmap(simulate, in_axes=(0, None, None))(keys, process, target)


def simulate_held(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, num_trajectories: int
) -> Trajectory:
    """Trajectories whose states are held fixed: gradients see the two densities, not the path."""
    check_chains(rng_key, process, target)
    num_trajectories = check_count("num_trajectories", num_trajectories, 1)
    keys = divide(jax.random.split(rng_key, num_trajectories))
    states = jax.vmap(simulate_states, in_axes=(0, None, None))(keys, process, target)
    return rescore_held(process, target, states)


def _prepend(first: Point, rest: Point) -> Point:
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, rest)


def _append(rest: Point, last: Point) -> Point:
    return jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), rest, last)
