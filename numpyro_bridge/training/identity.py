"""What tells one training run from another, so that a checkpoint resumes its own run only."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target import Target
from numpyro_bridge.target.fingerprint import difference, fingerprint

MEASURED = ("start", "data", "loss_data")
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
    rng_key: RNGKey,
    module: PyTree,
    params: PyTree,
    loss: Callable,
    data: Any,
    num_iterations: int,
) -> dict[str, Any]:
    """Names, moments of the numbers that the run starts from, log densities; JSON values."""
    typed = jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)
    return {
        "num_iterations": num_iterations,
        "module": dict(_settings(module, "module")),
        "loss": name_of(loss),
        "loss_data": _moments(list(_arrays_of(loss))),
        "rng_key": np.asarray(jax.random.key_data(rng_key) if typed else rng_key).tolist(),
        "start": _moments(params),
        "data": _moments(data),
        "model": fingerprint(data) if isinstance(data, Target) else [],
    }


def check_same_run(path: str | os.PathLike, saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare the run in a file with the present one.

    Raises:
        ValueError: naming what differs.
    """
    for name, value in now.items():
        other = _difference(name, saved.get(name), value)
        if other is not None:
            raise ValueError(
                f"{os.fspath(path)!r} is not a checkpoint of this run: it has {other}; delete it "
                "to start anew, or give the settings that it was made with"
            )


def _difference(name: str, saved: Any, now: Any) -> str | None:
    """How one part of two runs differs, in words; None where it does not."""
    if name in MEASURED:
        other = "other arrays in its loss" if name == "loss_data" else f"another {name}"
        return None if _close(saved, now) else other
    if name == "module":
        return _other_setting(saved or {}, now)
    if name == "model":
        other = difference(saved, now)
        return other and f"another {name} ({other} when it was written)"
    return None if saved == now else f"another {name} (it has {saved!r}, this run {now!r})"


def _settings(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    """What is fixed in a module, by path: classes of its parts, numbers, names of functions."""
    if isinstance(tree, eqx.Module):
        yield path, type(tree).__name__
        for field in dataclasses.fields(tree):
            yield from _settings(getattr(tree, field.name, None), f"{path}.{field.name}")
    elif isinstance(tree, list | tuple):
        for i, part in enumerate(tree):
            yield from _settings(part, f"{path}[{i}]")
    elif tree is None or isinstance(tree, bool | int | float | str):
        yield path, repr(tree)
    elif not hasattr(tree, "shape"):  # the numbers in arrays are measured
        yield path, name_of(tree)


def _other_setting(saved: dict[str, str], now: dict[str, str]) -> str | None:
    for path in dict.fromkeys([*saved, *now]):
        there, here = saved.get(path, "absent"), now.get(path, "absent")
        if there != here:
            return f"another process or network ({path} is {there}, and {here} in this run)"
    return None


def _arrays_of(function: Any) -> Iterator[Any]:
    """Arrays that a loss holds, such as draws, inside partial functions and mixtures too."""
    for _, part in getattr(function, "parts", ()):
        yield from _arrays_of(part)
    if hasattr(function, "func"):
        yield from _arrays_of(function.func)
        for value in (*function.args, *function.keywords.values()):
            yield from _arrays_of(value) if callable(value) else jax.tree.leaves(value)


def _moments(tree: PyTree) -> list[list[float]]:
    """Four numbers for every array, see `_measures`."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array | np.ndarray)]
    arrays = [np.ravel(np.asarray(leaf, float)) for leaf in leaves if leaf.dtype.kind in "biuf"]
    return [_measures(array) for array in arrays if array.size]


def _measures(array: np.ndarray) -> list[float]:
    """How many values are finite; of these root mean square, mean, and a sum that sees the order.

    Missing observations are NaN in the data of some models, and belong to them.
    """
    finite = np.isfinite(array)
    array = np.where(finite, array, 0.0)
    weights = np.random.default_rng(0).normal(size=array.size)
    scale = float(np.sqrt(np.mean(array**2)))
    in_order = float(array @ weights) / array.size**0.5
    return [float(np.sum(finite)), scale, float(np.mean(array)), in_order]


def _close(saved: list[list[float]], now: list[list[float]]) -> bool:
    """Equal but for what another machine or another number of threads would round otherwise."""
    if np.shape(saved) != np.shape(now):
        return False
    before, after = (np.reshape(np.asarray(x, float), (-1, 4)) for x in (saved, now))
    allowed = 1e-3 * before[:, 1:2] + 1e-6
    return bool(np.all(np.abs(before - after) <= allowed))
