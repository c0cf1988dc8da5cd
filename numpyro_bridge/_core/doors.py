"""What every public call checks first: that it is somewhere where it can work."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from numpyro_bridge._core.checks import check_key

_forked_from_jax = False
_was_called = False


def check_door(call: str, rng_key: Any, *inputs: Any, instead: str = "") -> None:
    """Raise at once unless a call that needs a key can work here.

    Args:
        call: The name of the method or function, for the message.
        rng_key: What the user gave as a key.
        *inputs: What else was given: pytrees, and functions with what they close over.
        instead: What to write inside compiled code, if there is something.

    Raises:
        ValueError: if it is inside compiled code, or the key is none.
        RuntimeError: if JAX has started in the process that this one was forked from.
    """
    check_here(call, rng_key, *inputs, instead=instead)
    check_key(rng_key)


def check_here(call: str, *inputs: Any, instead: str = "") -> None:
    """The same for a call without a key."""
    check_unforked(call)
    if _is_compiling() or any(isinstance(leaf, Tracer) for leaf in _leaves(inputs)):
        raise ValueError(
            f"{call} cannot be called inside jax.jit, vmap or grad: it decides by numbers, which "
            "only exist when compiled code runs. Call it outside, with arrays that are known"
            + (instead and f"; {instead}")
        )


def check_unforked(call: str) -> None:
    """Raise a RuntimeError if JAX has started in the process that this one was forked from.

    JAX works in threads, which a fork leaves behind: the child would wait for them for ever.
    """
    global _was_called
    if _forked_from_jax:
        raise RuntimeError(
            f"{call} was called in a process that was forked after JAX had started, and would wait "
            "for ever for threads that stayed behind. Start processes with "
            "multiprocessing.get_context('spawn'), as joblib does by itself, or fork before "
            "anything of JAX is used"
        )
    _was_called = True


def _is_compiling() -> bool:
    """Whether new arrays are not known here, since JAX is tracing this code for a program."""
    return isinstance(jax.device_put(np.zeros(())), Tracer)


def _leaves(inputs: Any) -> Iterator[Any]:
    """All that is given, and what functions among it have bound or close over."""
    for leaf in _flat(inputs):
        yield leaf
        if isinstance(leaf, partial):
            yield from _leaves((leaf.func, leaf.args, leaf.keywords))
        for cell in getattr(leaf, "__closure__", None) or ():
            try:
                yield from _flat(cell.cell_contents)
            except ValueError:  # a variable that has no value yet
                continue


def _flat(inputs: Any) -> list[Any]:
    try:
        return jax.tree.leaves(inputs)
    except (TypeError, ValueError):  # a dictionary whose keys have no order
        return [inputs]


def _note_fork() -> None:
    global _forked_from_jax
    _forked_from_jax = _forked_from_jax or _was_called or _jax_has_started()


def _jax_has_started() -> bool:
    try:
        from jax._src import xla_bridge

        return xla_bridge.backends_are_initialized()
    except (ImportError, AttributeError):  # private, and without a public counterpart
        return False


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_note_fork)
