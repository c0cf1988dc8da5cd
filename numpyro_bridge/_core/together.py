"""Several processes that do one run together, under `jax.distributed`.

Each process runs the same program, and where they compute together each waits for all others. So
they have to decide alike, and a decision rests on numbers that rounding may make different on
another machine. What the first process says therefore holds for all: it explores and charts alone,
and the others take from it what it found.
"""

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from numpyro_bridge._core.devices import spans_processes
from numpyro_bridge._core.interrupts import (
    forget_interrupt,
    held_interrupts,
    is_pressed,
    noticed_interrupts,
    raise_interrupt,
)

Result = TypeVar("Result")


class _Member(NamedTuple):
    """Where a process runs."""

    host: str
    process: int

    def is_gone(self) -> bool | None:
        """Whether the process has ended; None for one of another machine."""
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's
            return False
        return _is_zombie(self.process)


_members: ContextVar[tuple[_Member, ...]] = ContextVar("_members", default=())


def is_first() -> bool:
    """Whether this process writes files and shows bars: the first one, or the only one."""
    return jax.process_index() == 0


def num_together() -> int:
    """The number of processes that do the present run together."""
    return max(1, len(_members.get()))


@contextmanager
def together(mesh: Mesh | None) -> Iterator[None]:
    """Let all processes whose devices are in a mesh work as one inside the block.

    Nothing is different where all devices are this process's own. Ctrl-C in one process waits until
    `interrupt_all` tells the others.

    Raises:
        RuntimeError: if another process is lost.
    """
    if not spans_processes(mesh) or _members.get():
        yield
        return
    token = None
    try:
        here = _Member(socket.gethostname(), os.getpid())
        token = _members.set(tuple(said_by_all(here)))
        with noticed_interrupts(), held_interrupts():
            yield
    except (RuntimeError, ValueError) as error:  # those of JAX are of these kinds
        _raise_if_lost(error)
        raise
    finally:
        if token is not None:
            _members.reset(token)


@contextmanager
def _alone() -> Iterator[None]:
    token = _members.set(())
    try:
        yield
    finally:
        _members.reset(token)


def from_first(compute: Callable[[], Result]) -> Result:
    """What a function returns in the first process, or the exception that it raises there.

    The others wait. Outside of `together` the function is simply called.
    """
    if not _members.get():
        return compute()
    outcome, words = None, b""
    if is_first():
        with _alone(), held_interrupts(False):
            outcome = _outcome(compute)
        words = _pickled(outcome)
    value, error = pickle.loads(_said_by_first(words))
    if error is not None:
        raise error if outcome is None or outcome[1] is None else outcome[1]
    return value


def on_all(what: str, compute: Callable[[], Result]) -> Result:
    """What a function returns in this process, if it raises nothing in any.

    Raises:
        RuntimeError: if it raised an exception in another process.
    """
    if not _members.get():
        return compute()
    value, error = _outcome(compute)
    failed = said_by_all(None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for number, words in enumerate(failed):
        if words is not None:
            raise RuntimeError(f"process {number} failed while {what}: {words}")
    return value


def other_values(first: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Say in words which values differ between two dictionaries; None where none does."""
    differ = [name for name, value in first.items() if other[name] != value]
    words = [f"another {name} ({other[name]!r} and not {first[name]!r})" for name in differ]
    return " and ".join(words) or None


def check_same(said: Any, difference: Callable[[Any, Any], str | None] = other_values) -> None:
    """Raise an error, in every process, unless all do the same.

    Args:
        said: What this process does; it can be pickled. By default values by name.
        difference: Says in words what a process has that the first one has not; None for nothing.

    Raises:
        ValueError: if one of them does something else than the first process.
    """
    if not _members.get():
        return
    first, *others = said_by_all(said)
    for number, other in enumerate(others, start=1):
        words = difference(first, other)
        if words is not None:
            raise ValueError(
                f"process {number} has {words}: all processes that share devices must run the same "
                "program with the same arguments as process 0"
            )


def interrupt_all() -> None:
    """Raise a `KeyboardInterrupt` in all processes if Ctrl-C was pressed in one of them."""
    if not _members.get():
        raise_interrupt()
    elif any(said_by_all(is_pressed())):
        forget_interrupt()
        raise KeyboardInterrupt


def said_by_all(said: Any) -> list[Any]:
    """What all processes say, in their order."""
    words = np.frombuffer(pickle.dumps(said), np.uint8)
    lengths = np.atleast_1d(multihost_utils.process_allgather(np.int32(len(words))))
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(words)] = words
    rows = np.atleast_2d(multihost_utils.process_allgather(padded))
    return [pickle.loads(bytes(row[:n])) for row, n in zip(rows, lengths, strict=True)]


def _said_by_first(words: bytes) -> bytes:
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(words))))
    here = np.frombuffer(words, np.uint8) if is_first() else np.zeros(length, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(here)))


def _outcome(compute: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return compute(), None
    except BaseException as error:  # whatever it is, the other processes must not wait for ever
        return None, error


def _pickled(outcome: tuple[Any, BaseException | None]) -> bytes:
    """The outcome in bytes; if it has none, an error that says so, in words."""
    try:
        words = pickle.dumps(outcome)
        pickle.loads(words)
    except Exception as failure:
        _, error = outcome
        said = f"{type(error).__name__}: {error}" if error is not None else f"pickling: {failure}"
        return pickle.dumps((None, RuntimeError(f"process 0 failed: {said}")))
    return words


_SIGNS_OF_LOSS = ("Gloo", "Connection closed", "Connection reset", "NCCL", "UNAVAILABLE", "ABORTED")
"""What errors of a computation say whose other processes do not answer."""


def _raise_if_lost(error: Exception) -> None:
    """Raise an error that names the process that is gone, if that is what an error comes from."""
    if not any(sign in str(error) for sign in _SIGNS_OF_LOSS):
        return
    members = enumerate(_members.get())
    others = [(number, one) for number, one in members if number != jax.process_index()]
    gone = [one for one in others if one[1].is_gone()]
    suspects = gone or [one for one in others if one[1].is_gone() is None] or others
    names = " or ".join(
        f"process {number} (number {member.process} on {member.host})"
        for number, member in suspects
    )
    names = names or "another process"  # lost before it said where it runs
    raise RuntimeError(
        f"{names} was lost: it ended, or its machine does not answer. Start all processes anew; a "
        "training with checkpoint= goes on from where it was"
    ) from error


def _is_zombie(process: int) -> bool:
    """Whether a process has ended and only waits for its parent, where the system tells."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] == [b"Z"]
    except OSError:
        return False
