"""Count what JAX compiles, and compare what is compiled ahead with what is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from jax import monitoring

from numpyro_bridge._core import ahead


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


@contextmanager
def all_called_that_is_compiled_ahead() -> Iterator[None]:
    """Every program that is compiled ahead inside the block is called there, with such arguments.

    Otherwise a stand-in has not the shapes of what it stands for, and is compiled for nothing.
    """
    submitted, called = [], []
    submit, wait_for = ahead.submit, ahead.wait_for

    def noted_submit(program, lower, arguments):
        submitted.append((program, ahead._described(arguments)))
        submit(program, lower, arguments)

    def noted_wait(program, arguments):
        called.append((program, ahead._described(arguments)))
        wait_for(program, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "submit", noted_submit)
        patch.setattr(ahead, "wait_for", noted_wait)
        yield
    assert submitted
    for program, described in submitted:
        same = [one for known, one in called if known is program]
        assert described in same, program.__name__
