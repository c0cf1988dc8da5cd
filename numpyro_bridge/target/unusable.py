"""Arguments of a model that are not numbers, and what to pass in their place."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from numpyro_bridge.target.seen_data import by_name

NO_NUMBERS = "OSUMm"
"""Kinds of NumPy arrays that JAX cannot compute with: objects, strings, bytes, dates, durations."""


def unusable_arguments(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> tuple[str, ...]:
    """Say what to pass instead of arguments that may be why a model raised an error.

    A model is free to take any object, so this is asked only after it has failed.

    Args:
        model: The NumPyro model.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        error: What it raised.
    """
    named = by_name(model, args, kwargs)
    if not isinstance(named, dict):
        return ()
    return tuple(_sentences(named, str(error)))


def _sentences(named: dict[str, Any], error: str) -> Iterator[str]:
    for name, value in named.items():
        kind = type(value).__name__
        if type(value).__module__.partition(".")[0] in ("pandas", "polars"):
            yield f"{name} is a {kind}: pass {name}.to_numpy(), of numbers"
        elif isinstance(value, np.ma.MaskedArray):
            yield (
                f"{name} is a masked array: pass {name}.filled(0), and put "
                f"numpyro.handlers.mask(mask=~{name}.mask) around its site"
            )
        elif isinstance(value, np.ndarray) and value.dtype.kind in NO_NUMBERS:
            yield f"{name} is an array of type {value.dtype}: pass numbers"
        elif _is_no_array(value) and f"'{kind}'" in error:
            numbers = f"jnp.asarray({name})" if isinstance(value, list | tuple) else "numbers"
            yield f"{name} is a {kind}: pass {numbers}"


def _is_no_array(value: Any) -> bool:
    return value is not None and not isinstance(value, np.ndarray | jax.Array | np.generic)
