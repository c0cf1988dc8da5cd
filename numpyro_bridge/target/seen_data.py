"""The data that something was made for, to tell whether it is used with others."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from numpyro_bridge.target.base import Skeleton, take_out_arrays


class SeenData(NamedTuple):
    """Arguments of a model."""

    arrays: tuple[jax.Array, ...]
    skeleton: Skeleton

    @classmethod
    def of(cls, model: Any, args: tuple, kwargs: dict[str, Any]) -> "SeenData":
        """Those of one call."""
        return cls(*take_out_arrays(_named(model, args, kwargs)))

    def are(self, model: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
        """Whether these are the same, number for number, or by shape inside compiled code."""
        arrays, skeleton = take_out_arrays(_named(model, args, kwargs))
        pairs = zip(arrays, self.arrays, strict=False)
        return skeleton == self.skeleton and all(_are_same(*pair) for pair in pairs)


def _named(model: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
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
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        return True
    return np.array_equal(a, b, equal_nan=jnp.issubdtype(a.dtype, jnp.inexact))
