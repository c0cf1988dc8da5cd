"""Data that lose what matters where their numbers are rounded to the precision of JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge.target.arguments import has_unsortable_keys
from numpyro_bridge.target.readings import constants_of
from numpyro_bridge.target.seen_data import by_name
from numpyro_bridge.target.stale_copies import wide_arrays

TOLERANCE = 1e-3
"""Rounding matters where it is more than this share of the range of the values. In float32 Julian
days are rounded to quarters: a third of the range of one night, and next to nothing of a decade."""


def rounded_arguments(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
    """Names of the arguments whose arrays are not what they were, once JAX has taken them.

    JAX keeps 32 bits of every number unless `numpyro.enable_x64()` was called. Real numbers are
    rounded then, which is harmless unless they differ by little from each other beside their size;
    integers beyond two thousand million become others.

    Args:
        model: The NumPyro model.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        by_name(model, args, kwargs), is_leaf=has_unsortable_keys
    )
    names = [_name(path) for path, leaf in leaves if isinstance(leaf, np.ndarray) and _loses(leaf)]
    return tuple(dict.fromkeys(names))


def rounded_readings(model: Any, log_density: Callable[..., Any], dim: int) -> tuple[str, ...]:
    """Names of the arrays that a model reads by itself, and that JAX rounded where they were used.

    What NumPy did with an array before JAX took it, such as subtracting its mean, is done in 64
    bits, and loses nothing.

    Args:
        model: The NumPyro model.
        log_density: The log density that was made of it.
        dim: Number of dimensions of a position.
    """
    wide = [(name or "the model", array) for name, array in wide_arrays(model) if _loses(array)]
    if not wide:
        return ()
    found = list(constants_of(jax.make_jaxpr(log_density)(jnp.zeros(dim))))
    names = [name for name, array in wide if any(_is_copy(x, array) for x in found)]
    return tuple(dict.fromkeys(names))


def _is_copy(copy: np.ndarray, array: np.ndarray) -> bool:
    """Whether JAX made the first array of the second one; it may also have kept all its bits."""
    if copy.shape != array.shape or not np.issubdtype(copy.dtype, np.number):
        return False
    with np.errstate(over="ignore"):
        return np.array_equal(copy, array.astype(copy.dtype), equal_nan=copy.dtype.kind in "fc")


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _loses(values: np.ndarray) -> bool:
    if values.size == 0 or not np.issubdtype(values.dtype, np.number):
        return False
    if values.dtype == jax.dtypes.canonicalize_dtype(values.dtype):
        return False
    with np.errstate(over="ignore"):
        kept = np.asarray(jnp.asarray(values))
    if np.issubdtype(values.dtype, np.integer):
        return bool(np.any(kept != values))
    finite = np.isfinite(values)
    if np.any(~np.isfinite(kept[finite])):
        return True
    change = np.abs(kept[finite].astype(values.dtype) - values[finite])
    extent = np.ptp(values[finite]) if np.any(finite) else 0.0
    return bool(extent > 0 and np.max(change) > TOLERANCE * extent)
