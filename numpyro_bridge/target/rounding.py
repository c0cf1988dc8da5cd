"""Arguments that lose what matters where their numbers are rounded to the precision of JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge.target.arguments import has_unsortable_keys
from numpyro_bridge.target.seen_data import by_name

TOLERANCE = 1e-3
"""Rounding matters where it is more than this share of the range of the values. In float32 Julian
days are rounded to quarters: a third of the range of one night, and next to nothing of a decade."""


def rounded_arguments(model: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[str, ...]:
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


def _name(path: tuple) -> str:
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
