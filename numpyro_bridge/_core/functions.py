"""Names of functions, with the settings that `functools.partial` has bound."""

from typing import Any


def name_of(function: Any) -> str:
    """The name of a function, followed by the bound settings that are not arrays."""
    if not hasattr(function, "func"):
        return getattr(function, "__name__", type(function).__name__)
    name = name_of(function.func)
    plain = {key: value for key, value in function.keywords.items() if not hasattr(value, "shape")}
    settings = [f"{key}={name_of(v) if callable(v) else v}" for key, v in plain.items()]
    return f"{name}({', '.join(settings)})" if settings else name
