"""The data that a result was made for, to notice when it is used with other data."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge.target.arguments import Skeleton, holds_tracers, take_out_arrays


class SeenData(NamedTuple):
    """The arguments that a model was called with."""

    arrays: tuple[jax.Array, ...]
    skeleton: Skeleton

    @classmethod
    def of(cls, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "SeenData":
        """Note the arguments of one call."""
        return cls(*take_out_arrays(by_name(model, args, kwargs)))

    def are(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether these arguments are the same ones.

        Arrays are compared number for number, or by shape inside compiled code.
        """
        arrays, skeleton = take_out_arrays(by_name(model, args, kwargs))
        pairs = zip(arrays, self.arrays, strict=False)
        return skeleton == self.skeleton and all(_are_same(*pair) for pair in pairs)


def by_name(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Arguments by name, so that it does not matter which were given by position."""
    try:
        return dict(inspect.signature(model).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # no function, or one that has no signature
        return args, kwargs


def _are_same(a: jax.Array, b: jax.Array) -> bool:
    if a is b:
        return True
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if holds_tracers((a, b)):
        return True
    return np.array_equal(a, b, equal_nan=jnp.issubdtype(a.dtype, jnp.inexact))
