"""What a function is called and which arrays it holds, inside `functools.partial` too."""

from collections.abc import Iterator
from typing import Any

import jax


def name_of(function: Any) -> str:
    """The name of a function, through `functools.partial`, with its plain settings."""
    if not hasattr(function, "func"):
        return getattr(function, "__name__", type(function).__name__)
    name = name_of(function.func)
    plain = {key: value for key, value in function.keywords.items() if not hasattr(value, "shape")}
    settings = [f"{key}={name_of(v) if callable(v) else v}" for key, v in plain.items()]
    return f"{name}({', '.join(settings)})" if settings else name


def arrays_of(function: Any) -> Iterator[Any]:
    """Arrays that a function was given, such as the draws that a loss learns from."""
    for _, part in getattr(function, "parts", ()):
        yield from arrays_of(part)
    if hasattr(function, "func"):
        yield from arrays_of(function.func)
        for value in (*function.args, *function.keywords.values()):
            yield from arrays_of(value) if callable(value) else jax.tree.leaves(value)
