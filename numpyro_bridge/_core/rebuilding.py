"""Make a tree again from its description, which cannot name code outside this package."""

import importlib
import types
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge._core.descriptions import (
    FOREIGN,
    PACKAGE,
    Apart,
    bare_name,
    describe,
    describes_array,
    describes_whole_module,
    is_array,
    is_plain,
    is_public,
    taken_apart,
)

NOTHING = object()
"""Stands for an object that was not brought along; None could be one that was."""


def rebuild(description: Any, arrays: list[Any], made: Any = NOTHING, path: str = "tree") -> Any:
    """Make the tree that was described.

    Args:
        description: Made by `describe`.
        arrays: The arrays, in order; those of this tree are removed from the front.
        made: An object like the one that was described. It is needed where the tree holds objects
            from outside this package.
        path: What messages call this part of the tree: the argument that makes `made`, followed by
            the names of parts.

    Raises:
        ValueError: if `made` is missing or unlike the description, or if the description asks for
            a class or function that this package does not have.
    """
    if not isinstance(description, dict):
        if made is not NOTHING and describe(made, []) != description:
            raise _misfit(path, repr(description), made)
        return description
    if describes_array(description):
        array = jnp.asarray(arrays.pop(0))
        if made is not NOTHING and _shown(made) != _shown(array):
            raise _misfit(path, _shown(array), made)
        return array
    apart = Apart(**description)
    likes = _parts_like(apart, made, path)
    parts = {}
    for key, part in apart.parts.items():
        # A module of this package need not be like that of the constructor: where several modes
        # were seen, a sampler starts from another distribution than the one it has by default.
        like = NOTHING if describes_whole_module(part) else likes.get(key, NOTHING)
        parts[key] = rebuild(part, arrays, like, f"{path}.{key}")
    return _BUILDERS[apart.kind](apart.name, parts, made)


def _parts_like(apart: Apart, made: Any, path: str) -> dict[str, Any]:
    """The parts of the object that was brought along, once it is known to fit the description."""
    if made is NOTHING:
        if apart.kind in FOREIGN:
            raise ValueError(
                f"the file holds a {apart.name}, which is not of {PACKAGE}: pass "
                f"{path.split('.')[0]}=, the constructor that it was made with"
            )
        return {}
    own = taken_apart(made)
    if (own.kind, own.name) != (apart.kind, apart.name):
        raise _misfit(path, f"a {apart.name.split(':')[-1]}", made)
    if own.parts.keys() != apart.parts.keys():
        raise _misfit(path, f"a {apart.name} of {', '.join(apart.parts)}", made)
    return own.parts


def _misfit(path: str, described: str, made: Any) -> ValueError:
    return ValueError(
        f"{path} is {described} in the file, and {_shown(made)} in what was passed: pass the "
        "constructor with the settings that the saved one was made with"
    )


def _shown(value: Any) -> str:
    if is_array(value):
        # Files are read into the precision that JAX works in now, so dtypes of floats may differ.
        dtype = "float" if jnp.issubdtype(value.dtype, jnp.floating) else value.dtype
        return f"an array of shape {value.shape} and type {dtype}"
    return repr(value) if is_plain(value) else f"a {bare_name(value)}"


def _build_class(name: str, parts: dict[str, Any], made: Any) -> Any:
    cls = _found(name)
    if not isinstance(cls, type) or not issubclass(cls, eqx.Module | tuple):
        raise ValueError(f"this version of {PACKAGE} has no class {name!r}")
    return _instance(cls, parts)


def _build_function(name: str, parts: dict[str, Any], made: Any) -> Any:
    function = _found(name)
    if not isinstance(function, types.FunctionType) or not is_public(function):
        raise ValueError(f"this version of {PACKAGE} has no function {name!r}")
    return function


def _build_given(name: str, parts: dict[str, Any], made: Any) -> Any:
    leaves, structure = jax.tree.flatten(made)
    arrays = iter(parts.values())
    return structure.unflatten([next(arrays) if is_array(leaf) else leaf for leaf in leaves])


_BUILDERS: dict[str, Callable[[str, dict[str, Any], Any], Any]] = {
    "class": _build_class,
    "function": _build_function,
    "list": lambda name, parts, made: [*parts.values()],
    "tuple": lambda name, parts, made: tuple(parts.values()),
    "dict": lambda name, parts, made: parts,
    "foreign": lambda name, parts, made: _instance(type(made), parts),
    "given": _build_given,
}


def _instance(cls: type, fields: dict[str, Any]) -> Any:
    if issubclass(cls, tuple):
        return cls(**fields)
    made = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def _found(place: str) -> Any:
    """The class or function of this package at a place such as `module:name`; None if not there."""
    module, _, name = place.partition(":")
    if module.split(".")[0] != PACKAGE:
        raise ValueError(f"the file asks for {place!r}, which is not of {PACKAGE}")
    return getattr(importlib.import_module(module), name, None)
