"""What every sampler is: two Markov chains over the same states."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Int

from numpyro_bridge._core.types import Vector
from numpyro_bridge.processes.controls import AbstractControl
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.processes.parts import is_part, widened_parts
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.clipped import ClippedScore

Controls = TypeVar("Controls")


class State(eqx.Module, Generic[Controls]):
    """A point, and the controls evaluated there, which both kernels that start from it share.

    >>> step, point = jnp.array(0), target.at(jnp.zeros(2))
    >>> state = nb.processes.State(point, process.controls(step, point))
    >>> process.forward(step, state, target).sample(key).position.shape
    (2,)
    """

    point: Point
    controls: Controls


class AbstractProcess(eqx.Module, Generic[Controls]):
    """Two chains over the same states: forward to the target, backward from it.

    >>> process.num_steps
    4
    >>> process.start(target).sample(key).position.shape
    (2,)

    To add a sampler, write one subclass, in one file, with the four abstract methods below. Each is
    for a single state; whoever runs the chains batches them. Nothing here loops, and nothing here
    stops a gradient. The weight of a trajectory is exact at any `num_steps` and any parameters,
    because both chains are made of kernels that score what they sample.

    A constructor takes `(rng_key, dim, *, ...)`, with defaults for all settings. What is learned is
    kept in parts, which the optimiser and exploration know by their types: see `AbstractPart`.
    """

    num_steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def start(self, target: Target) -> AbstractKernel:
        """The distribution of the first state."""

    @abc.abstractmethod
    def controls(self, step: Int[Array, ""], point: Point) -> Controls:
        """All that is learned, evaluated once at a state; `step` runs from 0 to `num_steps`."""

    @abc.abstractmethod
    def forward(
        self, step: Int[Array, ""], state: State[Controls], target: Target
    ) -> AbstractKernel:
        """The distribution of state `step + 1` given `state` at `step`."""

    @abc.abstractmethod
    def backward(
        self, step: Int[Array, ""], state: State[Controls], target: Target
    ) -> AbstractKernel:
        """The distribution of state `step` given `state` at `step + 1`."""

    def extension(self, point: Point) -> AbstractKernel | None:
        """The distribution of a momentum, for samplers whose states have one besides a position.

        The target of the bridge is then the product of the two distributions.
        """
        return None

    def fixed_by_states(self) -> list[Any]:
        """Arrays that are determined by given states, because some moves are not random.

        A loss that holds the states fixed cannot learn these arrays, and leaves them as they are.
        """
        return []

    def prepared(self, target: Target) -> Target:
        """The target as both chains see it, with scores of bounded length.

        It also carries what the initial distribution needs to know about each of its points.
        """
        parts = jax.tree.leaves(self, is_leaf=is_part)
        for part in parts:
            if isinstance(part, AbstractInitialDistribution):
                target = part.prepared(target)
        return ClippedScore(target)

    def widened(self, factor: float) -> "AbstractProcess[Any]":
        """The same sampler with `factor` times as much noise in its forward chain."""
        return widened_parts(self, factor)

    @property
    def innermost(self) -> "AbstractProcess[Any]":
        """The process itself; for a wrapper, the one inside all wrappers."""
        return self


class AbstractBridge(AbstractProcess[Controls]):
    """A sampler that may start from any initial distribution.

    >>> issubclass(nb.CMCD, nb.processes.AbstractBridge)
    True
    >>> process = partial(nb.CMCD, initial=nb.processes.InitialPrior())
    """

    initial: eqx.AbstractVar[AbstractInitialDistribution]

    def start(self, target: Target) -> AbstractKernel:
        return self.initial.kernel(target)


class AbstractDenoising(AbstractProcess[Vector]):
    """A sampler whose backward chain only adds noise: one control, in the forward chain.

    >>> issubclass(nb.PIS, nb.processes.AbstractDenoising)
    True
    """

    initial: eqx.AbstractVar[InitialNormal]
    control: eqx.AbstractVar[AbstractControl]

    def start(self, target: Target) -> Gaussian:
        return self.initial.kernel(target)

    def controls(self, step: Int[Array, ""], point: Point) -> Vector:
        return self.control(step / self.num_steps, point.position, point.score)


class AbstractWrapper(AbstractProcess[Controls]):
    """A process around another one, which it follows in all that a subclass does not change.

    >>> class NeverWidened(nb.processes.AbstractWrapper):
    ...     process: nb.processes.AbstractProcess
    ...
    ...     def widened(self, factor):
    ...         return self
    >>> NeverWidened(process).num_steps
    4
    """

    process: eqx.AbstractVar[AbstractProcess[Controls]]

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The number of steps of the process inside."""
        return self.process.num_steps

    @property
    def innermost(self) -> AbstractProcess[Any]:
        return self.process.innermost

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

    def fixed_by_states(self) -> list[Any]:
        return self.process.fixed_by_states()

    def prepared(self, target: Target) -> Target:
        return self.process.prepared(target)

    def widened(self, factor: float) -> "AbstractWrapper[Any]":
        return eqx.tree_at(lambda w: w.process, self, self.process.widened(factor))


def euler(point: Point, drift: Vector, diffusion: Vector, target: Target) -> Gaussian:
    """An Euler-Maruyama step of variance `diffusion²`, whose mean moves by `diffusion² · drift`."""
    return Gaussian(point.position + diffusion**2 * drift, diffusion, target)
