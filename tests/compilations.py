"""Count what JAX compiles."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jax import monitoring


@contextmanager
def listed_compilations() -> Iterator[list[str]]:
    """Collect the names of the programs that are compiled inside the block."""
    names: list[str] = []

    def listen(event: str, duration: float, fun_name: str = "", **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        monitoring.unregister_event_duration_listener(listen)
