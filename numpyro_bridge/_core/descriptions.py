"""Describe a tree of modules and arrays in JSON; `rebuilding` makes the tree again.

A file must not say what code to import. So a module of this package is described by its class, and
one that a user wrote by the bare name of its class: whoever reads the file brings along an object
of that class, and what was saved is put in its place.
"""

import dataclasses
import sys
import types
from collections.abc import Iterable, Iterator
from functools import singledispatch
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

PACKAGE = "numpyro_bridge"

FOREIGN = ("foreign", "given")
"""Kinds of what is not of this package: a module with named parts, and anything else."""


class NotDescribable(ValueError):
    """A tree holds something that JSON and arrays cannot express."""


class Apart(NamedTuple):
    """An object taken apart, as it stands in a file."""

    kind: str
    """Such as "class", "list" or "foreign"; `rebuilding` has a function for each."""
    name: str
    """Module and name of what this package has, the bare name of what it has not."""
    parts: dict[str, Any]


@singledispatch
def taken_apart(tree: Any) -> Apart:
    """Kind, name and parts of an object; where parts have no names, they are its arrays."""
    return Apart("given", bare_name(tree), _numbered(filter(is_array, jax.tree.leaves(tree))))


@taken_apart.register
def _(tree: eqx.Module) -> Apart:
    return _with_fields(tree, [field.name for field in dataclasses.fields(tree)])


@taken_apart.register
def _(tree: tuple) -> Apart:
    names = getattr(tree, "_fields", None)
    return Apart("tuple", "tuple", _numbered(tree)) if names is None else _with_fields(tree, names)


@taken_apart.register
def _(tree: list) -> Apart:
    return Apart("list", "list", _numbered(tree))


@taken_apart.register
def _(tree: dict) -> Apart:
    if not all(isinstance(key, str) for key in tree):
        return taken_apart.dispatch(object)(tree)
    return Apart("dict", "dict", tree)


@taken_apart.register
def _(tree: types.FunctionType) -> Apart:
    if not is_public(tree):
        return taken_apart.dispatch(object)(tree)
    return Apart("function", _place(tree), {})


def describe(tree: Any, arrays: list[Any]) -> Any:
    """Describe `tree` in JSON values; its arrays are appended to `arrays`.

    Raises:
        NotDescribable: if there is a random key in it.
    """
    if is_plain(tree):
        return tree
    if isinstance(tree, np.bool_ | np.integer):
        return tree.item()  # a number of steps has to stay a number
    if is_array(tree):
        if jnp.issubdtype(tree.dtype, jax.dtypes.prng_key):
            raise NotDescribable("random keys cannot be saved; pass jax.random.key_data(key)")
        arrays.append(tree)
        return {"shape": list(tree.shape), "dtype": str(tree.dtype)}
    apart = taken_apart(tree)
    parts = {key: describe(part, arrays) for key, part in apart.parts.items()}
    return apart._replace(parts=parts)._asdict()


def describe_whole(tree: Any, arrays: list[Any]) -> Any:
    """Describe `tree` so that it can be made again with nothing brought along.

    Raises:
        NotDescribable: naming what cannot.
    """
    description = describe(tree, arrays)
    for name in foreign_names(description):
        raise NotDescribable(f"a {name} cannot be saved: it is not of {PACKAGE}")
    return description


def foreign_names(description: Any) -> list[str]:
    """Names of what is not of this package."""
    return [node["name"] for node in _nodes(description) if node.get("kind") in FOREIGN]


def blank_arrays(description: Any) -> list[np.ndarray]:
    """Arrays of the described shapes and dtypes, in order: what a reader fills in."""
    arrays = [node for node in _nodes(description) if "shape" in node]
    return [np.zeros(node["shape"], jnp.dtype(node["dtype"])) for node in arrays]


def _nodes(description: Any) -> Iterator[dict[str, Any]]:
    if isinstance(description, dict):
        yield description
        for part in description.get("parts", {}).values():
            yield from _nodes(part)


def is_plain(value: Any) -> bool:
    """Whether JSON has it."""
    return value is None or isinstance(value, bool | int | float | str)


def is_array(value: Any) -> bool:
    """Whether it has numbers with a shape."""
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def is_public(function: types.FunctionType) -> bool:
    """Whether it is a function of this package that its module shows to everyone."""
    name, module = function.__name__, sys.modules.get(function.__module__)
    return _is_ours(function) and name[0] != "_" and getattr(module, name, None) is function


def bare_name(value: Any) -> str:
    """The name of a function or class, or of the class that a value is of."""
    return getattr(value, "__name__", type(value).__name__)


def _with_fields(tree: Any, names: Iterable[str]) -> Apart:
    cls, parts = type(tree), {name: getattr(tree, name) for name in names}
    ours = _is_ours(cls)
    return Apart("class", _place(cls), parts) if ours else Apart("foreign", cls.__name__, parts)


def _is_ours(found: Any) -> bool:
    return found.__module__.split(".")[0] == PACKAGE


def _place(found: Any) -> str:
    return f"{found.__module__}:{found.__qualname__}"


def _numbered(parts: Iterable[Any]) -> dict[str, Any]:
    return {str(number): part for number, part in enumerate(parts)}
