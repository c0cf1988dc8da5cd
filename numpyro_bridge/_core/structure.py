"""Describe a tree of modules and arrays in JSON, and build it again without running its code."""

import dataclasses
import importlib
import types
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

PACKAGE = "numpyro_bridge"


class NotDescribable(ValueError):
    """A tree holds something that JSON and arrays cannot express."""


def describe(tree: Any, arrays: list[Any]) -> Any:
    """Describe `tree` in JSON values; its arrays are appended to `arrays`.

    Modules, named tuples and public functions of this package, containers, numbers, strings and
    arrays can be described.

    Raises:
        NotDescribable: naming the type that cannot.
    """
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    if isinstance(tree, (jax.Array, np.ndarray, np.generic)):
        if jnp.issubdtype(tree.dtype, jax.dtypes.prng_key):
            raise NotDescribable("random keys cannot be saved; pass jax.random.key_data(key)")
        arrays.append(tree)
        return {"array": list(tree.shape), "dtype": str(tree.dtype)}
    if isinstance(tree, eqx.Module) or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        fields = _field_names(tree)
        return {
            "class": _class_path(type(tree)),
            "fields": {name: describe(getattr(tree, name), arrays) for name in fields},
        }
    if isinstance(tree, types.FunctionType) and _is_public_function(tree):
        return {"function": f"{tree.__module__}:{tree.__name__}"}
    if isinstance(tree, (list, tuple)):
        return {type(tree).__name__: [describe(leaf, arrays) for leaf in tree]}
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        return {"dict": {key: describe(leaf, arrays) for key, leaf in tree.items()}}
    raise NotDescribable(f"a {type(tree).__name__} cannot be saved")


def blank_arrays(description: Any) -> list[np.ndarray]:
    """Arrays of the described shapes and dtypes, in order: what a reader fills in."""
    if not isinstance(description, dict):
        return []
    if "function" in description:
        return []
    if "array" in description:
        return [np.zeros(description["array"], jnp.dtype(description["dtype"]))]
    (children,) = [description[kind] for kind in _KINDS if kind in description]
    children = children.values() if isinstance(children, dict) else children
    return [array for child in children for array in blank_arrays(child)]


def rebuild(description: Any, arrays: list[Any]) -> Any:
    """The tree that was described; takes its arrays from the front of `arrays`.

    Raises:
        ValueError: if it names a class outside this package, which a file must not bring in.
    """
    if not isinstance(description, dict):
        return description
    if "array" in description:
        return jnp.asarray(arrays.pop(0))
    if "function" in description:
        return _function_at(description["function"])
    if "class" in description:
        fields = {k: rebuild(v, arrays) for k, v in description["fields"].items()}
        return _instance(_class_at(description["class"]), fields)
    if "dict" in description:
        return {key: rebuild(value, arrays) for key, value in description["dict"].items()}
    kind = "list" if "list" in description else "tuple"
    values = [rebuild(value, arrays) for value in description[kind]]
    return values if kind == "list" else tuple(values)


_KINDS = ("fields", "dict", "list", "tuple")


def _field_names(tree: Any) -> list[str]:
    of_tuple = getattr(tree, "_fields", None)
    return [field.name for field in dataclasses.fields(tree)] if of_tuple is None else [*of_tuple]


def _class_path(cls: type) -> str:
    if cls.__module__.split(".")[0] != PACKAGE:
        raise NotDescribable(
            f"{cls.__qualname__} is not a class of {PACKAGE}, and a file must not say what code to "
            "import; keep its arrays with equinox.tree_serialise_leaves instead"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_at(path: str) -> type:
    module, _, name = path.partition(":")
    if module.split(".")[0] != PACKAGE:
        raise ValueError(f"the file asks for {path!r}, which is not a class of {PACKAGE}")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type) or not issubclass(found, (eqx.Module, tuple)):
        raise ValueError(f"this version of {PACKAGE} has no class {path!r}")
    return found


def _is_public_function(function: types.FunctionType) -> bool:
    """Whether it is a function of this package that its module shows to everyone."""
    module, name = function.__module__, function.__name__
    in_package = module.split(".")[0] == PACKAGE and not name.startswith("_")
    return in_package and getattr(importlib.import_module(module), name, None) is function


def _function_at(path: str) -> types.FunctionType:
    module, _, name = path.partition(":")
    if module.split(".")[0] != PACKAGE:
        raise ValueError(f"the file asks for {path!r}, which is not a function of {PACKAGE}")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, types.FunctionType) or not _is_public_function(found):
        raise ValueError(f"this version of {PACKAGE} has no function {path!r}")
    return found


def _instance(cls: type, fields: dict[str, Any]) -> Any:
    if issubclass(cls, tuple):
        return cls(**fields)
    made = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made
