"""Describe a tree of modules and arrays in JSON, from which `rebuilding` makes the tree again.

A file must not say what code to import. A module of this package is described by the place of its
class, which is looked up in this package alone. A module that a user wrote is described by the bare
name of its class: whoever reads the file brings along an object of that class, and the saved parts
are put into it.
"""

import dataclasses
import math
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
"""Kinds of objects from outside this package: modules with named parts, and anything else."""


class NotDescribable(ValueError):
    """A tree holds something that cannot be written as JSON and arrays."""


class Apart(NamedTuple):
    """An object taken apart into what a file keeps of it."""

    kind: str
    """The sort of object, such as "class" or "list"; `rebuilding` has a function for each."""
    name: str
    """Module and name of an object of this package; the bare name of any other."""
    parts: dict[str, Any]


@singledispatch
def taken_apart(tree: Any) -> Apart:
    """Take an object apart. If its type is not known, its parts are the arrays in it."""
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
        return tree.item()  # such as a number of steps, which must not become an array
    if is_array(tree):
        if jnp.issubdtype(tree.dtype, jax.dtypes.prng_key):
            raise NotDescribable("random keys cannot be saved; pass jax.random.key_data(key)")
        arrays.append(tree)
        return {"shape": list(tree.shape), "dtype": str(tree.dtype)}
    apart = taken_apart(tree)
    parts = {key: describe(part, arrays) for key, part in apart.parts.items()}
    return apart._replace(parts=parts)._asdict()


def describe_whole(tree: Any, arrays: list[Any]) -> Any:
    """Describe `tree`, and refuse what could not be made again from the file alone.

    Raises:
        NotDescribable: if there is an object from outside this package in it.
    """
    description = describe(tree, arrays)
    for name in foreign_names(description):
        raise NotDescribable(f"a {name} cannot be saved: it is not of {PACKAGE}")
    return description


def foreign_names(description: Any) -> list[str]:
    """The names of all objects in a description that are not of this package."""
    return [node["name"] for node in _nodes(description) if node.get("kind") in FOREIGN]


def describes_array(description: Any) -> bool:
    """Whether a part of a description is that of an array."""
    return "shape" in description


def describes_whole_module(description: Any) -> bool:
    """Whether it describes a module of this package, with nothing in it from outside."""
    if not isinstance(description, dict) or description.get("kind") != "class":
        return False
    return not foreign_names(description)


def blank_arrays(description: Any) -> list[np.ndarray]:
    """Arrays of zeros with the described shapes and dtypes, in order, to be read into."""
    arrays = [node for node in _nodes(description) if describes_array(node)]
    return [np.zeros(node["shape"], jnp.dtype(node["dtype"])) for node in arrays]


def num_bytes(description: Any) -> int:
    """How many bytes the described arrays take, without making them."""
    arrays = [node for node in _nodes(description) if describes_array(node)]
    return sum(math.prod(node["shape"]) * jnp.dtype(node["dtype"]).itemsize for node in arrays)


def _nodes(description: Any) -> Iterator[dict[str, Any]]:
    if isinstance(description, dict):
        yield description
        for part in description.get("parts", {}).values():
            yield from _nodes(part)


def is_plain(value: Any) -> bool:
    """Whether JSON can hold the value as it is."""
    return value is None or isinstance(value, bool | int | float | str)


def is_array(value: Any) -> bool:
    """Whether the value is an array or a NumPy scalar."""
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def is_public(function: types.FunctionType) -> bool:
    """Whether it is a public function of this package, found in its module under its name."""
    name, module = function.__name__, sys.modules.get(function.__module__)
    is_shown = not name.startswith("_") and getattr(module, name, None) is function
    return _is_ours(function) and is_shown


def bare_name(value: Any) -> str:
    """The name of a function or class; for any other value, the name of its class."""
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
