"""Files with a JSON header and the arrays of a pytree, written completely or not at all."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import equinox as eqx
import numpy as np

from numpyro_bridge._core.descriptions import blank_arrays, describe
from numpyro_bridge._core.rebuilding import NOTHING, rebuild

Tree = TypeVar("Tree")

FORMAT = 2
"""Version of the file layout, increased when an older version could no longer read the files."""


def write_atomically(path: str | os.PathLike, write: Callable[[BinaryIO], None]) -> Path:
    """Write a file under another name and then move it, so that nobody ever reads half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def save_tree(path: str | os.PathLike, header: dict[str, Any], tree: Any) -> Path:
    """Write `header` as one line of JSON, then the leaves of `tree` in Equinox's format."""
    line = json.dumps({"format": FORMAT, **header}).encode() + b"\n"

    def write(file: BinaryIO) -> None:
        file.write(line)
        eqx.tree_serialise_leaves(file, tree)

    return write_atomically(path, write)


def load_header(path: str | os.PathLike) -> dict[str, Any]:
    """Read the first line of a file made by `save_tree`.

    Raises:
        ValueError: if the file is not of this package, or has another format.
    """
    with open(path, "rb") as file:
        return _parse_header(path, file)


def load_tree(path: str | os.PathLike, like: Tree) -> tuple[dict[str, Any], Tree]:
    """Read the header and the leaves of a tree that has the structure and arrays of `like`.

    Raises:
        ValueError: if the file has another format, or its arrays do not fit `like`.
    """
    with open(path, "rb") as file:
        header = _parse_header(path, file)
        try:
            return header, eqx.tree_deserialise_leaves(file, like)
        except (RuntimeError, ValueError, EOFError) as error:
            raise ValueError(
                f"the arrays in {os.fspath(path)!r} do not fit what they are read into: {error}. "
                "Load it with the model, data shapes, float precision and settings of when it was "
                "saved."
            ) from error


def save_parts(path: str | os.PathLike, header: dict[str, Any], parts: dict[str, Any]) -> Path:
    """Write a header and named parts, with descriptions from which `load_parts` makes them again.

    Raises:
        ValueError: if there is a random key in a part.
    """
    arrays: list[Any] = []
    described = {name: describe(part, arrays) for name, part in parts.items()}
    return save_tree(path, {**header, "parts": described}, [np.asarray(x) for x in arrays])


def load_parts(
    path: str | os.PathLike, makers: dict[str, Callable[[], Any] | None]
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
    described = load_header(path)["parts"]
    _, arrays = load_tree(path, [blank_arrays(part) for part in described.values()])
    given = {name: make() for name, make in makers.items() if make is not None}
    try:
        return {
            name: rebuild(part, list(own), given.get(name, NOTHING), name)
            for (name, part), own in zip(described.items(), arrays, strict=True)
        }
    except ValueError as error:
        raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from error


def _parse_header(path: str | os.PathLike, file: BinaryIO) -> dict[str, Any]:
    try:
        header = json.loads(file.readline())
        known = header["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)!r} is not a file of numpyro_bridge") from error
    if not known:
        raise ValueError(
            f"{os.fspath(path)!r} has file format {header['format']}, this version reads {FORMAT}; "
            "install the version of numpyro_bridge that wrote it"
        )
    return header
