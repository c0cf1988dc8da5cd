"""Score given states under both chains, with gradients through them or with the states held."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_instance
from numpyro_bridge._core.types import Scalar
from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.target import Point, Target
from numpyro_bridge.trajectories.arguments import check_process_and_target
from numpyro_bridge.trajectories.trajectory import Trajectory

Process = TypeVar("Process", bound=AbstractProcess)


class StepDensities(NamedTuple):
    """The log densities of one trajectory, step by step, in nats."""

    log_initial: Scalar
    """Log density of the first state under the initial distribution."""
    log_forward: Float[Array, " steps"]
    """Log density of each move under the forward chain."""
    log_backward: Float[Array, " steps"]
    """Log density of each move, taken back, under the backward chain."""
    log_target: Scalar
    """Log density of the last state under the target, unnormalised."""


def rescore(process: AbstractProcess[Any], target: Target, states: Point) -> Trajectory:
    """Score given states under both chains, in one batch over steps rather than in a scan.

    >>> run = nb.trajectories.simulate(key, process, target)
    >>> again = nb.trajectories.rescore(process, target, run.states)
    >>> bool(jnp.isclose(again.log_weight, run.log_weight))
    True

    The target is not evaluated again: its density and score travel with the states.

    Args:
        process: The two chains.
        target: Handed to the kernels, which score states without evaluating it.
        states: One trajectory, leading axis `num_steps + 1`.
    """
    check_process_and_target(process, target)
    check_instance("states", states, Point, "simulate(rng_key, process, target).states")
    parts = score_steps(process, target, states)
    return Trajectory(
        states,
        parts.log_initial + jnp.sum(parts.log_forward),
        parts.log_target + jnp.sum(parts.log_backward),
    )


def score_steps(process: AbstractProcess[Any], target: Target, states: Point) -> StepDensities:
    """The log densities that `rescore` adds up; its arguments are the same."""
    all_steps = jnp.arange(process.num_steps + 1)
    controls = jax.vmap(process.controls)(all_steps, states)
    state = State(states, controls)
    earlier, later = _drop_last(state), _drop_first(state)

    def score(step, earlier: State[Any], later: State[Any]):
        forward = process.forward(step, earlier, target).log_prob(later.point)
        backward = process.backward(step, later, target).log_prob(earlier.point)
        return forward, backward

    forwards, backwards = jax.vmap(score)(all_steps[:-1], earlier, later)
    first, last = jax.tree.map(lambda x: x[0], states), jax.tree.map(lambda x: x[-1], states)
    log_initial = process.start(target).log_prob(first)
    return StepDensities(log_initial, forwards, backwards, log_target(process, last))


def log_target(process: AbstractProcess[Any], last: Point) -> Scalar:
    """Log density of a last state under the target, and of its momentum where it has one."""
    extension = process.extension(last)
    return last.log_density + (0.0 if extension is None else extension.log_prob(last))


def rescore_held(process: AbstractProcess[Any], target: Target, states: Point) -> Trajectory:
    """`rescore` for a batch of states that are held fixed: no gradient flows through them."""
    states = jax.lax.stop_gradient(states)
    return jax.vmap(rescore, in_axes=(None, None, 0))(held(process), target, states)


def held(process: Process) -> Process:
    """The process, with gradients stopped at the arrays that given states determine."""
    if not process.fixed_by_states():
        return process
    return eqx.tree_at(
        lambda p: p.fixed_by_states(), process, replace_fn=lambda x: jax.lax.stop_gradient(x)
    )


def _drop_last(state: State[Any]) -> State[Any]:
    return jax.tree.map(lambda x: x[:-1], state)


def _drop_first(state: State[Any]) -> State[Any]:
    return jax.tree.map(lambda x: x[1:], state)
