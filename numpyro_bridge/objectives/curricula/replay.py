"""A replay buffer: trajectories of earlier forward chains, weighted to the present one."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.checks import check_count
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.curricula.base import AbstractCurriculum
from numpyro_bridge.objectives.sampling import Batch, on_policy
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Point, Target, TargetWrapper
from numpyro_bridge.trajectories.arguments import check_chains
from numpyro_bridge.trajectories.rescore import rescore_held
from numpyro_bridge.trajectories.simulate import simulate_held
from numpyro_bridge.trajectories.trajectory import Trajectory


class Remembered(NamedTuple):
    """Trajectories, and the log density that each had when it was drawn."""

    states: Point
    """Leading axes: trajectories, steps 0 … num_steps."""
    log_forward: Float[Array, " capacity"]
    """Log density under the forward chain that made the trajectory, in nats."""
    oldest: Int[Array, ""]
    """The row that is overwritten next."""


class ReplayBuffer(AbstractCurriculum[Remembered]):
    """Keep trajectories and train on them again; for losses that take `sampling=`.

    >>> sampler = nb.BridgeSampler(model, curriculum=nb.ReplayBuffer(capacity=512, num_new=128))

    A trajectory carries the scores of its states, so replaying it evaluates the model nowhere.
    Choose it where the model is by far the most expensive part of an iteration. (The number of
    gradient evaluations that is reported counts replayed trajectories as if they were new.)

    Args:
        capacity: How many trajectories are kept.
        num_new: How many new ones replace the oldest before every chunk of 25 iterations; at most
            `capacity`.

    Raises:
        ValueError: if `num_new` is not between 1 and `capacity`.
    """

    capacity: int = eqx.field(static=True)
    num_new: int = eqx.field(static=True)
    warm_up: int = eqx.field(static=True)

    def __init__(self, capacity: int = 1_024, *, num_new: int = 256):
        capacity = check_count("capacity", capacity, 1)
        num_new = check_count("num_new", num_new, 1)
        if num_new > capacity:
            raise ValueError(
                f"num_new must be between 1 and the capacity, got {num_new} and {capacity}"
            )
        self.capacity = capacity
        self.num_new = num_new
        self.warm_up = 0

    @property
    def settings(self) -> dict[str, Any]:
        return {"sampling": replayed}

    def start(self, rng_key: RNGKey, module: AbstractProcess[Any], data: Target) -> Remembered:
        runs = _new_runs(rng_key, module, data, self.capacity)
        return Remembered(runs.states, runs.log_forward, jnp.asarray(0))

    def advance(
        self,
        rng_key: RNGKey,
        iteration: Int[Array, ""],
        memory: Remembered,
        module: AbstractProcess[Any],
        data: Target,
    ) -> Remembered:
        runs = _new_runs(rng_key, module, data, self.num_new)
        rows = (memory.oldest + jnp.arange(self.num_new)) % self.capacity
        kept, new = (memory.states, memory.log_forward), (runs.states, runs.log_forward)
        states, log_forward = jax.tree.map(lambda old, leaf: old.at[rows].set(leaf), kept, new)
        return Remembered(states, log_forward, (rows[-1] + 1) % self.capacity)

    def shown(self, memory: Remembered, data: Target) -> "TargetWithRuns":
        return TargetWithRuns(data, memory)


class TargetWithRuns(TargetWrapper):
    """A target, and trajectories that were drawn for it earlier."""

    base: Target
    remembered: Remembered

    def __init__(self, base: Target, remembered: Remembered):
        self.base = base
        self.remembered = remembered


def replayed(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, num_trajectories: int
) -> Batch:
    r"""Half new trajectories of the forward chain, half from a `ReplayBuffer`.

    >>> objective = partial(nb.log_variance, sampling=nb.objectives.replayed)
    >>> sampler = nb.BridgeSampler(model, objective=objective, curriculum=nb.ReplayBuffer())

    A replayed trajectory is weighted by $\vec{p}(x) / \vec{p}_{\text{then}}(x)$, the exact ratio
    of its densities now and when it was drawn. All replayed ones together count as much as their
    effective sample size, so that old and unlikely ones do no harm. Losses that are right for any
    trajectories, such as `log_variance`, ignore the weights.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains.
        target: What a `ReplayBuffer` shows: the density, with the trajectories that it keeps.
        num_trajectories: Batch size, at least 4.

    Raises:
        TypeError: if no `ReplayBuffer` is in use.
        ValueError: if the batch is smaller than 4.
    """
    if not isinstance(target, TargetWithRuns):
        raise TypeError(
            "target: nb.objectives.replayed reads a replay buffer, and there is none: write "
            "nb.BridgeSampler(..., curriculum=nb.ReplayBuffer())"
        )
    check_chains(rng_key, process, target)
    num_trajectories = check_count("num_trajectories", num_trajectories, 4)
    num_old = num_trajectories // 2
    new_key, choice_key = jax.random.split(rng_key)
    new = on_policy(new_key, process, target.base, num_trajectories - num_old)
    states, log_then, _ = target.remembered
    rows = jax.random.choice(choice_key, len(log_then), (num_old,), replace=num_old > len(log_then))
    old = rescore_held(process, target.base, jax.tree.map(lambda leaf: leaf[rows], states))
    share = jax.nn.softmax(jax.lax.stop_gradient(old.log_forward) - log_then[rows])
    weight = jnp.concatenate([new.weight, share * _effective_number(share)])
    runs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), new.runs, old)
    return Batch(runs, weight / jnp.mean(weight), new.reported)


def _effective_number(share: Float[Array, " num"]) -> Scalar:
    return 1 / jnp.sum(share**2)


def _new_runs(
    rng_key: RNGKey, process: AbstractProcess[Any], target: Target, num_trajectories: int
) -> Trajectory:
    runs = simulate_held(rng_key, process, target, num_trajectories)
    return jax.lax.stop_gradient(runs)
