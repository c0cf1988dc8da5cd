"""What a curriculum is: a view of the data that changes between chunks of iterations."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey

Memory = TypeVar("Memory")


class AbstractCurriculum(eqx.Module, Generic[Memory]):
    """Shows the loss something else than the data as they are, and changes it as training goes on.

    What it remembers is a pytree of arrays, carried by the training loop and saved in its
    checkpoints, so a resumed run is the same run. `advance` is called before every chunk of
    iterations, inside compiled code.
    """

    warm_up: eqx.AbstractVar[int]
    """Iterations before the loss is shown the target itself. Until then no ELBO is compared with
    another, so training neither stops nor goes back."""

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments that the loss gets beside its own, such as where it samples from."""
        return {}

    @abc.abstractmethod
    def start(self, rng_key: RNGKey, module: Any, data: Any) -> Memory:
        """What is remembered before the first iteration."""

    @abc.abstractmethod
    def advance(
        self, rng_key: RNGKey, iteration: Int[Array, ""], memory: Memory, module: Any, data: Any
    ) -> Memory:
        """What is remembered at an iteration, for a module trained so far."""

    @abc.abstractmethod
    def shown(self, memory: Memory, data: Any) -> Any:
        """What the loss gets in place of the data."""


class Unchanged(AbstractCurriculum[tuple[()]]):
    """The data themselves. The default."""

    warm_up: int = eqx.field(static=True, default=0)

    def start(self, rng_key: RNGKey, module: Any, data: Any) -> tuple[()]:
        return ()

    def advance(
        self, rng_key: RNGKey, iteration: Int[Array, ""], memory: tuple[()], module: Any, data: Any
    ) -> tuple[()]:
        return ()

    def shown(self, memory: tuple[()], data: Any) -> Any:
        return data
