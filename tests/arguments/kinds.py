"""What is tried for every argument, and which of it an argument of each kind has to take."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PROBES: dict[str, Any] = {
    "none": None,
    "text": "4",
    "true": True,
    "zero": 0,
    "minus one": -1,
    "half": 1.5,
    "not a number": float("nan"),
    "number of NumPy": np.int64(3),
    "number of JAX": jnp.asarray(3),
    "list": [1, 2],
    "huge": 2**40,
    "object": object(),
}
"""What is tried for every argument."""

KEYS: dict[str, Any] = {
    "raw key": jax.random.PRNGKey(0),
    "raw key of NumPy": np.asarray(jax.random.PRNGKey(0)),
    "batch of keys": jax.random.split(jax.random.key(0), 3),
    "batch of raw keys": jax.random.split(jax.random.PRNGKey(0), 3),
}
"""What is tried for a key besides."""


@dataclass(frozen=True)
class Kind:
    """What an argument takes.

    Attributes:
        accepted: Names of what has to work; everything else has to be refused.
        values: Values in place of those of `PROBES`, where another one says more.
    """

    accepted: frozenset[str]
    values: Mapping[str, Any] = field(default_factory=dict)

    def probes(self) -> dict[str, Any]:
        """Everything that is tried, by name."""
        return {**PROBES, **self.values}

    def also(self, *names: str, **values: Any) -> "Kind":
        """The same kind, which takes more."""
        values = {name.replace("_", " "): value for name, value in values.items()}
        accepted = self.accepted | {*names, *values}
        return replace(self, accepted=accepted, values={**self.values, **values})

    def without(self, *names: str) -> "Kind":
        """The same kind, which takes less."""
        return replace(self, accepted=self.accepted - {*names})


def _of(*accepted: str, **values: Any) -> Kind:
    return Kind(frozenset(accepted)).also(**values)


def optional(kind: Kind) -> Kind:
    """The kind, or None."""
    return kind.also("none")


KEY = Kind(frozenset({"raw key", "raw key of NumPy"}), KEYS)
COUNT = _of("number of NumPy", "number of JAX")
COUNT_OR_ZERO = COUNT.also("zero")
FLAG = _of("true").also(flag_of_NumPy=np.bool_(True))
POSITIVE = _of("half", "number of NumPy", "number of JAX", "huge")
NOT_NEGATIVE = POSITIVE.also("zero")
NUMBER = NOT_NEGATIVE.also("minus one")
SHARE = _of(number_of_NumPy=np.float64(0.5), number_of_JAX=jnp.asarray(0.5))
TEXT = _of("text")
PATH = TEXT
NOTHING = _of()
"""An argument that takes none of what is tried: a function, a posterior, an array."""


def count_from(minimum: int, **values: Any) -> Kind:
    """A count of at least `minimum`."""
    numbers = {"number_of_NumPy": np.int64(minimum), "number_of_JAX": jnp.asarray(minimum)}
    return _of(**numbers)
