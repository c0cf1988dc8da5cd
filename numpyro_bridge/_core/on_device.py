"""Arrays of JAX made without compiling anything."""

from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array


def on_device(value: Any, dtype: DTypeLike | None = None) -> Array:
    """`jnp.asarray` for numbers that are known, outside of compiled programs.

    `jnp.asarray` itself compiles a program for each shape, though all it does is to copy.

    Args:
        value: A number, or an array of NumPy or JAX.
        dtype: The kind of numbers; by default that of the value, in JAX's precision.
    """
    if isinstance(value, jax.Array):
        return value if dtype is None else value.astype(dtype)
    return jax.device_put(np.asarray(value, dtype))
