"""Checks of what the guide `AutoBridge` is given."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import (
    check_function,
    check_key,
    check_positive,
    check_process,
    check_shape,
    check_text,
)


def check_settings(
    model: Any, process: Any, prefix: Any, init_loc_fn: Any, init_scale: Any
) -> float:
    """The initial scale as a number of Python; a ValueError if a setting cannot work."""
    check_function("model", model, "a NumPyro model")
    check_process(process)
    check_text("prefix", prefix, "auto")
    if init_loc_fn is not None:
        check_function("init_loc_fn", init_loc_fn, "numpyro.infer.init_to_median")
    return check_positive("init_scale", init_scale)


def checked_shape(rng_key: Any, sample_shape: Any) -> tuple[int, ...]:
    """The leading axes of draws; a ValueError unless these are a key and a shape."""
    check_key(rng_key)
    return check_shape("sample_shape", sample_shape)


def checked_levels(quantiles: Any) -> Float[Array, "*levels"]:
    """Levels as an array.

    Raises:
        ValueError: if one of them is no number from 0 to 1.
    """
    found = quantiles.dtype if hasattr(quantiles, "dtype") else np.asarray(quantiles).dtype
    numbers = jnp.issubdtype(found, np.number)
    levels = np.asarray(quantiles) if numbers else np.full((), np.nan)
    if not bool(np.all((levels >= 0) & (levels <= 1))):
        raise ValueError(f"quantiles are levels from 0 to 1, such as 0.05, got {quantiles}")
    return jnp.asarray(levels, jnp.result_type(float))
