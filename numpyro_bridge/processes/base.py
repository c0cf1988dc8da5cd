"""What every sampler is: two Markov chains over the same states."""

import abc
from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.processes.initial import AbstractInitialDistribution
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.target import Point, Target

Controls = TypeVar("Controls")


class State(eqx.Module, Generic[Controls]):
    """A point and every control evaluated there: what both kernels that start here need."""

    point: Point
    controls: Controls


class AbstractProcess(eqx.Module, Generic[Controls]):
    """Two chains over the same states: forward to the target, backward from it.

    Adding a sampler is writing one subclass in one file with the four methods below, each for a
    single state; whoever runs the chains batches them. Nothing here loops and nothing here
    stops a gradient. The weight of a trajectory is exact at any `num_steps` and any parameters,
    because both chains are made of kernels that score what they sample.

    A constructor takes `(rng_key, dim, *, ...)` with defaults for the rest, and `initial`
    where the sampler can start from any law.
    """

    num_steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def start(self, target: Target) -> AbstractKernel:
        """The law of the first state."""

    @abc.abstractmethod
    def controls(self, step: Int[Array, ""], point: Point) -> Controls:
        """Everything learned at this state, evaluated once; `step` runs from 0 to `num_steps`."""

    @abc.abstractmethod
    def forward(
        self, step: Int[Array, ""], state: State[Controls], target: Target
    ) -> AbstractKernel:
        """The law of state `step + 1` given `state` at `step`."""

    @abc.abstractmethod
    def backward(
        self, step: Int[Array, ""], state: State[Controls], target: Target
    ) -> AbstractKernel:
        """The law of state `step` given `state` at `step + 1`."""

    def extension(self, point: Point) -> AbstractKernel | None:
        """The law of what a state has besides the position of `point`: a momentum, or nothing.

        Where there is one, the target of the bridge is the product of the two laws.
        """
        return None

    def fixed_by_states(self) -> list:
        """Parts of the process that given states determine, where kernels are not all random.

        A loss that holds the states fixed cannot learn them, and leaves them as they are.
        """
        return []

    def prepared(self, target: Target) -> Target:
        """The target with all that the initial law needs to know about its points."""
        law = getattr(self, "initial", None)
        return target if law is None else law.seen_by(target)


class AbstractWrapper(AbstractProcess[Controls]):
    """A process inside another, which does what the inner one does unless a subclass says so."""

    process: eqx.AbstractVar[AbstractProcess[Controls]]

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the process inside."""
        return self.process.num_steps

    def start(self, target: Target) -> AbstractKernel:
        return self.process.start(target)

    def controls(self, step: Int[Array, ""], point: Point) -> Controls:
        return self.process.controls(step, point)

    def forward(
        self, step: Int[Array, ""], state: State[Controls], target: Target
    ) -> AbstractKernel:
        return self.process.forward(step, state, target)

    def backward(
        self, step: Int[Array, ""], state: State[Controls], target: Target
    ) -> AbstractKernel:
        return self.process.backward(step, state, target)

    def extension(self, point: Point) -> AbstractKernel | None:
        return self.process.extension(point)

    def fixed_by_states(self) -> list:
        return self.process.fixed_by_states()

    def prepared(self, target: Target) -> Target:
        return self.process.prepared(target)


def euler(point: Point, drift: Vector, log_diffusion: Vector, target: Target) -> Gaussian:
    """One Euler-Maruyama step: variance `diffusion²`, mean moved by `diffusion² · drift`."""
    diffusion = jnp.exp(log_diffusion)
    return Gaussian(point.position + diffusion**2 * drift, diffusion, target)


def annealed_score(
    temperature: Scalar, initial: AbstractInitialDistribution, point: Point, score: Vector
) -> Vector:
    """Score of the geometric path between the two ends, at an inverse temperature in [0, 1]."""
    return (1 - temperature) * initial.score(point) + temperature * score


def constant_diffusion(num_steps: int, dim: int, diffusion: float) -> Float[Array, "steps dim"]:
    """Logarithms of diffusion coefficients that are equal at first."""
    return jnp.full((num_steps, dim), jnp.log(diffusion), jnp.result_type(float))


def check_steps(num_steps: int, diffusion: float) -> None:
    """Raise a ValueError that says what to write instead."""
    if num_steps < 1:
        raise ValueError(f"a bridge needs at least one step, got num_steps={num_steps}")
    if not diffusion > 0:
        raise ValueError(f"diffusion is a standard deviation and must be positive, got {diffusion}")


def unwrapped(process: AbstractProcess) -> AbstractProcess:
    """The innermost process of wrappers."""
    while isinstance(process, AbstractWrapper):
        process = process.process
    return process
