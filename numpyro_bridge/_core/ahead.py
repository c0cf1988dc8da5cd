"""Compile programs in other threads, before they are called.

A first run spends most of its seconds in compiling a few dozen programs, on one core, one after the
other. What a later stage will call is often known early. It is then traced at once, and compiled
beside whatever runs until it is called.

Only the compiling happens in other threads. Tracing calls the model, and the handlers of NumPyro
share one stack among all threads.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import jax

NUM_THREADS = 2
"""Programs that are compiled at the same time."""

VARIABLE = "NUMPYRO_BRIDGE_COMPILE_AHEAD"
"""If this environment variable is 0, nothing is compiled before it is called."""


class _Pending(NamedTuple):
    """A program that is being compiled, or waits for that."""

    program: Callable[..., Any]
    arguments: tuple[Any, Sequence[Any]]
    """Their structure, and the shape and kind of each array."""
    future: Future


_pending: list[_Pending] = []


def submit(program: Callable[..., Any], lower: Callable[..., Any], arguments: Any) -> None:
    """Trace a program now, and compile it in another thread.

    Args:
        program: What will be called; only to know it again.
        lower: The method `lower` of the compiled function.
        arguments: The positional ones of the call to come, or others of the same shapes.
    """
    settings: Any = jax.config  # whose attributes are not declared
    if os.environ.get(VARIABLE) == "0" or settings.jax_disable_jit:
        return
    try:
        lowered = lower(*arguments)
    except Exception:
        return  # whoever calls the program traces it again, and has the error
    known = program, _described(arguments)
    _pending.append(_Pending(*known, _threads().submit(_compiled_or_not, lowered)))


def wait_for(program: Callable[..., Any], arguments: Any) -> None:
    """Wait while a program for such arguments is being compiled; if it is not yet, do not wait."""
    _pending[:] = [one for one in _pending if not one.future.done()]
    same = [one for one in _pending if one.program is program]
    if not same:
        return
    described = _described(arguments)
    for one in same:
        if one.arguments == described and not one.future.cancel():
            one.future.result()


def forget_waiting() -> None:
    """Compile nothing of what nobody has begun to compile: a run has ended."""
    for one in _pending:
        one.future.cancel()
    _pending.clear()


def _compiled_or_not(lowered: Any) -> None:
    try:
        lowered.compile()
    except Exception:
        pass  # whoever calls the program compiles it again, and has the error


def _described(arguments: Any) -> tuple[Any, list[Any]]:
    leaves, structure = jax.tree.flatten(arguments)
    return structure, [_shape(leaf) for leaf in leaves]


def _shape(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="numpyro-bridge-compiles")
