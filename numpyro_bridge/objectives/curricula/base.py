"""What a curriculum is: it changes the data that a loss sees, between chunks of iterations."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey

Memory = TypeVar("Memory")


class AbstractCurriculum(eqx.Module, Generic[Memory]):
    """Shows the loss something other than the data themselves, and changes it during training.

    >>> curriculum = nb.Tempering(num_iterations=400)
    >>> isinstance(curriculum, nb.objectives.AbstractCurriculum), curriculum.warm_up
    (True, 400)

    What it remembers is a pytree of arrays. The training loop carries it and saves it in its
    checkpoints, so a resumed run goes on as if it had not been interrupted. `advance` is called
    before every chunk of iterations, inside compiled code.
    """

    warm_up: eqx.AbstractVar[int]
    """Number of iterations before the loss is shown the target itself.

    Until then ELBOs are not compared, so training neither stops nor returns to an earlier state.
    """

    @property
    def settings(self) -> dict[str, Any]:
        """Further keyword arguments for the loss, such as where it samples from."""
        return {}

    @abc.abstractmethod
    def start(self, rng_key: RNGKey, module: Any, data: Any) -> Memory:
        """What is remembered before the first iteration."""

    @abc.abstractmethod
    def advance(
        self, rng_key: RNGKey, iteration: Int[Array, ""], memory: Memory, module: Any, data: Any
    ) -> Memory:
        """What is remembered from an iteration on, given the module as trained so far."""

    @abc.abstractmethod
    def shown(self, memory: Memory, data: Any) -> Any:
        """What the loss gets in place of the data."""


class Unchanged(AbstractCurriculum[tuple[()]]):
    """Shows the data themselves, which is the default."""

    warm_up: int = eqx.field(static=True, default=0)

    def start(self, rng_key: RNGKey, module: Any, data: Any) -> tuple[()]:
        return ()

    def advance(
        self, rng_key: RNGKey, iteration: Int[Array, ""], memory: tuple[()], module: Any, data: Any
    ) -> tuple[()]:
        return ()

    def shown(self, memory: tuple[()], data: Any) -> Any:
        return data
