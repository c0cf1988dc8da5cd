"""The layout of files: a line of JSON with sizes and a checksum, a header in JSON, and arrays."""

import hashlib
import json
import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np

FORMAT = 5
"""Version of the files, increased when a version of the package cannot read those of the other."""

MAX_FIRST_LINE, MAX_HEADER = 1_000, 100_000_000
"""Bytes that the first line and the header may have. The arrays are as long as the file says, and
the file is as long as it says."""


class Content(NamedTuple):
    """What is in a file, unchanged since it was written."""

    header: dict[str, Any]
    arrays: bytes


def seal(file: BinaryIO, header: dict[str, Any], arrays: bytes) -> None:
    """Write a header and arrays so that `unseal` notices any change."""
    encoded = json.dumps(header, default=_plain).encode()
    first = {
        "format": FORMAT,
        "header": len(encoded),
        "arrays": len(arrays),
        "checksum": _checksum(encoded, arrays),
    }
    file.write(json.dumps(first).encode() + b"\n" + encoded + arrays)


def unseal(path: str | os.PathLike[str]) -> Content:
    """Read a file, and check that it is whole and as it was written.

    Raises:
        ValueError: if it is not of this package, of another version, cut short, or changed.
    """
    shown = repr(os.fspath(path))
    with open(path, "rb") as file:
        sizes = _first_line(shown, file.readline(MAX_FIRST_LINE))
        num_header, num_arrays = sizes["header"], sizes["arrays"]
        expected = file.tell() + num_header + num_arrays
        found = os.fstat(file.fileno()).st_size
        if found != expected or num_header > MAX_HEADER:
            raise ValueError(
                f"{shown} is damaged: it has {found} bytes, and says that it has {expected}. Copy "
                "it again from where it was written, or train anew"
            )
        header, arrays = file.read(num_header), file.read(num_arrays)
    if sizes["checksum"] != _checksum(header, arrays):
        raise ValueError(
            f"{shown} is damaged: its checksum is not that of its content. Copy it again from "
            "where it was written, or train anew"
        )
    try:
        content = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the header of {shown} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"the header of {shown} is no dictionary")
    return Content(content, arrays)


def _first_line(shown: str, line: bytes) -> dict[str, Any]:
    stranger = f"{shown} is not a file of numpyro_bridge"
    try:
        sizes = json.loads(line)
        version = sizes["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(stranger) from error
    if version != FORMAT:
        raise ValueError(
            f"{shown} has file format {version!r}, this version reads {FORMAT}; install the "
            "version of numpyro_bridge that wrote it"
        )
    whole = all(type(sizes.get(name)) is int and sizes[name] >= 0 for name in ("header", "arrays"))
    if not whole or not isinstance(sizes.get("checksum"), str):
        raise ValueError(stranger)
    return sizes


def _checksum(header: bytes, arrays: bytes) -> str:
    state = hashlib.blake2b(digest_size=32)
    state.update(len(header).to_bytes(8, "big"))
    state.update(header)
    state.update(arrays)
    return state.hexdigest()


def _plain(value: Any) -> Any:
    """Numbers of NumPy, as JSON has them."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a file cannot hold a {type(value).__name__} in its header")
