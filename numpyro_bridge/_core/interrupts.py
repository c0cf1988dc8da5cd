"""Ctrl-C, which must not get lost.

Python raises a `KeyboardInterrupt` wherever the program is. If that is in a function which Python
or JAX calls by itself, such as a callback of the garbage collector, the exception is printed and
forgotten, and the program goes on. So Ctrl-C is remembered as well, and raised again at the next
step of the work.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_pressed = False
_times = 0
_held = False
"""Whether Ctrl-C waits until all processes of a run have heard of it."""


@contextmanager
def noticed_interrupts() -> Iterator[None]:
    """Remember Ctrl-C inside the block, for `raise_interrupt` to raise it once more.

    Nothing is changed in threads other than the main one, where Python lets nobody listen, and
    where the user's program has a handler of its own.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    forget_interrupt()
    signal.signal(signal.SIGINT, _note_and_raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        forget_interrupt()


def raise_interrupt() -> None:
    """Raise a `KeyboardInterrupt` if Ctrl-C was pressed and its exception did not arrive."""
    if _pressed and not _held and threading.current_thread() is threading.main_thread():
        forget_interrupt()
        raise KeyboardInterrupt


@contextmanager
def held_interrupts(held: bool = True) -> Iterator[None]:
    """Let Ctrl-C wait inside the block, or, with False, let it be raised at once again."""
    global _held
    before, _held = _held, held
    try:
        yield
    finally:
        _held = before


def is_pressed() -> bool:
    """Whether Ctrl-C was pressed and has not been dealt with."""
    return _pressed


def forget_interrupt() -> None:
    """Say that Ctrl-C has been dealt with."""
    global _pressed
    _pressed = False


def times_pressed() -> int:
    """How often Ctrl-C was pressed inside `noticed_interrupts`, dealt with or not."""
    return _times


def _note_and_raise(signum, frame) -> None:
    global _pressed, _times
    _pressed = True
    _times += 1
    if not _held:
        signal.default_int_handler(signum, frame)
