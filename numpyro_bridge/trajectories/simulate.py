"""Trajectories: run what a process describes, forward, backward, or over given states."""

from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.devices import divide
from numpyro_bridge._core.precision import check_precision
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.target import Point, Target

Process = TypeVar("Process", bound=AbstractProcess)


class Trajectory(NamedTuple):
    """States along the bridge and the log densities of the two chains over them.

    `E_forward[exp(log_weight)]` is the evidence, at any number of steps and any parameters.
    """

    states: Point
    """Leading axis: steps 0 … num_steps."""
    log_forward: Scalar
    """Initial law and forward kernels."""
    log_backward: Scalar
    """Target density and backward kernels."""

    @property
    def log_weight(self) -> Float[Array, "..."]:
        """Log importance weight of the whole trajectory, in nats."""
        return self.log_backward - self.log_forward


def simulate(rng_key: RNGKey, process: AbstractProcess, target: Target) -> Trajectory:
    """Run the forward chain once and score it under both chains; differentiable throughout.

    Args:
        rng_key: Randomness of the whole path.
        process: The two chains.
        target: The density, unnormalised. Both chains see it with scores of bounded length.

    Raises:
        ValueError: if the process was made in another precision than the present one.
    """
    check_precision(process)
    target = process.prepared(target)
    keys = jax.random.split(rng_key, process.num_steps + 1)
    initial = process.start(target)
    first = initial.sample(keys[0])

    def advance(state: State, step_and_key):
        step, key = step_and_key
        kernel = process.forward(step, state, target)
        point = kernel.sample(key)
        following = State(point, process.controls(step + 1, point))
        reverse = process.backward(step, following, target)
        return following, (point, kernel.log_prob(point), reverse.log_prob(state.point))

    start = State(first, process.controls(jnp.asarray(0), first))
    steps = jnp.arange(process.num_steps)
    _, (points, forwards, backwards) = jax.lax.scan(advance, start, (steps, keys[1:]))
    return Trajectory(
        _prepend(first, points),
        initial.log_prob(first) + jnp.sum(forwards),
        _log_target(process, jax.tree.map(lambda x: x[-1], points)) + jnp.sum(backwards),
    )


def simulate_states(rng_key: RNGKey, process: AbstractProcess, target: Target) -> Point:
    """The states of `simulate` for the same key, without any densities: what `rescore` reads."""
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
    rng_key: RNGKey, process: AbstractProcess, target: Target, position: Vector
) -> Trajectory:
    """Run the backward chain from a position of the target, and score it under both chains.

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


def rescore(process: AbstractProcess, target: Target, states: Point) -> Trajectory:
    """Score given states under both chains: no scan, one batch over steps.

    The target is not evaluated again: its density and score travel with the states.

    Args:
        process: The two chains.
        target: Passed on to the kernels.
        states: One trajectory, leading axis `num_steps + 1`.
    """
    parts = score_steps(process, target, states)
    return Trajectory(
        states,
        parts.log_initial + jnp.sum(parts.log_forward),
        parts.log_target + jnp.sum(parts.log_backward),
    )


class StepDensities(NamedTuple):
    """The log densities of one trajectory, step by step, in nats."""

    log_initial: Scalar
    """Of the first state under the initial law."""
    log_forward: Float[Array, " steps"]
    log_backward: Float[Array, " steps"]
    log_target: Scalar
    """Of the last state under the target, unnormalised."""


def score_steps(process: AbstractProcess, target: Target, states: Point) -> StepDensities:
    """What `rescore` adds up."""
    all_steps = jnp.arange(process.num_steps + 1)
    controls = jax.vmap(process.controls)(all_steps, states)
    state = State(states, controls)
    earlier, later = _drop_last(state), _drop_first(state)

    def score(step, earlier: State, later: State):
        forward = process.forward(step, earlier, target).log_prob(later.point)
        backward = process.backward(step, later, target).log_prob(earlier.point)
        return forward, backward

    forwards, backwards = jax.vmap(score)(all_steps[:-1], earlier, later)
    first, last = jax.tree.map(lambda x: x[0], states), jax.tree.map(lambda x: x[-1], states)
    log_initial = process.start(target).log_prob(first)
    return StepDensities(log_initial, forwards, backwards, _log_target(process, last))


def simulate_many(
    rng_key: RNGKey, process: AbstractProcess, target: Target, num_trajectories: int
) -> Trajectory:
    """`simulate` for `num_trajectories` independent trajectories; the leading axis counts them."""
    keys = divide(jax.random.split(rng_key, num_trajectories))
    return jax.vmap(simulate, in_axes=(0, None, None))(keys, process, target)


def simulate_detached(
    rng_key: RNGKey, process: AbstractProcess, target: Target, num_trajectories: int
) -> Trajectory:
    """Trajectories whose states are held fixed: gradients see the two densities, not the path."""
    keys = divide(jax.random.split(rng_key, num_trajectories))
    states = jax.vmap(simulate_states, in_axes=(0, None, None))(keys, process, target)
    return detached(process, target, states)


def detached(process: AbstractProcess, target: Target, states: Point) -> Trajectory:
    """`rescore` for a batch of states that are held fixed."""
    states = jax.lax.stop_gradient(states)
    return jax.vmap(rescore, in_axes=(None, None, 0))(held(process), target, states)


def held(process: Process) -> Process:
    """The process without gradients of what given states determine."""
    if not process.fixed_by_states():
        return process
    return eqx.tree_at(
        lambda p: p.fixed_by_states(), process, replace_fn=lambda x: jax.lax.stop_gradient(x)
    )


def _log_target(process: AbstractProcess, last: Point) -> Scalar:
    """Log density of a last state: that of the target, and of a momentum if there is one."""
    extension = process.extension(last)
    return last.log_density + (0.0 if extension is None else extension.log_prob(last))


def _prepend(first: Point, rest: Point) -> Point:
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, rest)


def _append(rest: Point, last: Point) -> Point:
    return jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), rest, last)


def _drop_last(state: State) -> State:
    return jax.tree.map(lambda x: x[:-1], state)


def _drop_first(state: State) -> State:
    return jax.tree.map(lambda x: x[1:], state)
