"""What tells one training run from another, so that a checkpoint resumes its own run only."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from numpyro_bridge._typing import RNGKey

MEASURED = ("start", "data")
"""Parts of an identity that are numbers computed from arrays, equal to rounding only."""


def name_of(function: Any) -> str:
    """The name of a function, through `functools.partial`, with its plain settings."""
    if not hasattr(function, "func"):
        return getattr(function, "__name__", type(function).__name__)
    name = name_of(function.func)
    plain = {key: value for key, value in function.keywords.items() if not hasattr(value, "shape")}
    settings = [f"{key}={name_of(v) if callable(v) else v}" for key, v in plain.items()]
    return f"{name}({', '.join(settings)})" if settings else name


def identity_of_run(
    rng_key: RNGKey, params: PyTree, loss: Callable, data: Any, num_iterations: int
) -> dict[str, Any]:
    """Names, and moments of the numbers that the run starts from; JSON values."""
    typed = jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)
    return {
        "num_iterations": num_iterations,
        "loss": name_of(loss),
        "rng_key": np.asarray(jax.random.key_data(rng_key) if typed else rng_key).tolist(),
        "start": _moments(params),
        "data": _moments(data),
    }


def check_same_run(path: str | os.PathLike, saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare the run in a file with the present one.

    Raises:
        ValueError: naming what differs.
    """
    for name, value in now.items():
        if name in MEASURED and not _close(saved[name], value):
            difference = f"another {name}"
        elif name not in MEASURED and saved.get(name) != value:
            difference = f"another {name} (it has {saved.get(name)!r}, this run {value!r})"
        else:
            continue
        raise ValueError(
            f"{os.fspath(path)!r} is not a checkpoint of this run: it has {difference}; delete it "
            "to start anew, or give the settings that it was made with"
        )


def _moments(tree: PyTree) -> list[list[float]]:
    """Size, mean and mean square of every array."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array | np.ndarray)]
    arrays = [np.asarray(leaf, float) for leaf in leaves if leaf.dtype.kind in "biuf" and leaf.size]
    return [
        [float(array.size), float(np.mean(array)), float(np.mean(array**2))] for array in arrays
    ]


def _close(saved: list[list[float]], now: list[list[float]]) -> bool:
    """Equal but for what another machine or another number of threads would round otherwise."""
    same_shape = np.shape(saved) == np.shape(now)
    return same_shape and np.allclose(saved, now, rtol=1e-3, atol=1e-6, equal_nan=True)
