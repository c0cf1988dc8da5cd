"""Files with a JSON header and the arrays of a pytree, written completely or not at all."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import numpy as np

from numpyro_bridge._core.descriptions import blank_arrays, describe, num_bytes
from numpyro_bridge._core.rebuilding import NOTHING, rebuild
from numpyro_bridge._core.sealed import seal, unseal
from numpyro_bridge._core.writing import write_atomically

Tree = TypeVar("Tree")


def save_tree(path: str | os.PathLike[str], header: dict[str, Any], tree: Any) -> Path:
    """Write `header`, then the leaves of `tree` in Equinox's format, with a checksum of both."""
    leaves = io.BytesIO()
    eqx.tree_serialise_leaves(leaves, tree)
    return write_atomically(path, lambda file: seal(file, header, leaves.getvalue()))


def load_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the header of a file made by `save_tree`.

    Raises:
        ValueError: if the file is not of this package, has another format, or is damaged.
    """
    return unseal(path).header


def load_tree(path: str | os.PathLike[str], like: Tree) -> tuple[dict[str, Any], Tree]:
    """Read the header and the leaves of a tree that has the structure and arrays of `like`.

    Raises:
        ValueError: if the file has another format or is damaged, or its arrays do not fit `like`.
    """
    header, arrays = unseal(path)
    leaves = io.BytesIO(arrays)
    try:
        tree = eqx.tree_deserialise_leaves(leaves, like)
        if leaves.read(1):
            raise ValueError("there are more of them")
    except (RuntimeError, ValueError, EOFError) as error:
        raise ValueError(
            f"the arrays in {os.fspath(path)!r} do not fit what they are read into: {error}. "
            "Load it with the model, data shapes, float precision and settings of when it was "
            "saved."
        ) from error
    return header, tree


def save_parts(path: str | os.PathLike[str], header: dict[str, Any], parts: dict[str, Any]) -> Path:
    """Write a header and named parts, with descriptions from which `load_parts` makes them again.

    Raises:
        ValueError: if there is a random key in a part.
    """
    arrays: list[Any] = []
    described = {name: describe(part, arrays) for name, part in parts.items()}
    return save_tree(path, {**header, "parts": described}, [np.asarray(x) for x in arrays])


def load_parts(
    path: str | os.PathLike[str], makers: dict[str, Callable[[], Any] | None]
) -> dict[str, Any]:
    """Make the parts again that `save_parts` wrote.

    Args:
        path: The file.
        makers: Functions by the name of a part, for parts that may be of classes outside this
            package. Each makes an object of the same classes and shapes as the saved part; None if
            the user gave no such function. The names are those of the user's arguments.

    Raises:
        ValueError: if a function is missing, or what it makes is unlike what was saved.
    """
    header, content = unseal(path)
    described = header["parts"]
    needed = sum(map(num_bytes, described.values()))
    if needed > len(content):
        raise ValueError(
            f"cannot load {os.fspath(path)!r}: its header describes arrays of {needed} bytes, and "
            f"there are {len(content)}"
        )
    _, arrays = load_tree(path, [blank_arrays(part) for part in described.values()])
    given = {name: make() for name, make in makers.items() if make is not None}
    try:
        return {
            name: rebuild(part, list(own), given.get(name, NOTHING), name)
            for (name, part), own in zip(described.items(), arrays, strict=True)
        }
    except ValueError as error:
        raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from error
