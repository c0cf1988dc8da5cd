"""Write a file completely or not at all, by one process at a time."""

import contextlib
import hashlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where nobody is told that another process writes
    fcntl = None

_counter = itertools.count()


def file_path(name: str, path: Any) -> Path:
    """The path of a file, with links followed, so that what a link points to is replaced.

    Args:
        name: The name of the user's argument.
        path: What the user gave for it.

    Raises:
        ValueError: if it is no path, or that of a folder, a device, a pipe or a socket, or one
            that only a shell understands.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise ValueError(f"{name} should be the path of a file, such as 'fit.bridge', got {path!r}")
    if not os.fspath(path) or "\0" in os.fspath(path):
        raise ValueError(f"{name} should be the path of a file, such as 'fit.bridge', got {path!r}")
    if Path(path).parts[:1] == ("~",):
        raise ValueError(
            f"{name}={os.fspath(path)!r} would make a folder of the name '~': write "
            f"{name}={os.path.expanduser(path)!r}"
        )
    if os.path.isdir(path):
        raise ValueError(
            f"{name} must be a file, and {os.fspath(path)!r} is a folder: write "
            f"{name}={os.path.join(path, name)!r}"
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(
            f"{name} must be a file, and {os.fspath(path)!r} is a device, a pipe or a socket"
        )
    return Path(os.path.realpath(path))


def check_writable(name: str, path: Any) -> None:
    """Raise now what would be raised once there is something to lose.

    Args:
        name: The name of the user's argument.
        path: Where a file is to be written later.

    Raises:
        ValueError: if no file can be written there; the message says why.
    """
    where = file_path(name, path)
    try:
        with contextlib.suppress(FileNotFoundError):
            where.stat()  # a name that is too long is noticed here
        write_atomically(where.with_name(f"{_prefix(where)}probe"), lambda file: None).unlink()
    except OSError as error:
        raise ValueError(
            f"{name}={os.fspath(path)!r} cannot be written: {error.strerror or error}. Choose "
            "another path, before anything is computed"
        ) from error


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> Path:
    """Write a file under another name and then move it, so that nobody ever reads half of it.

    It gets the permissions of any new file. What killed processes left behind is removed.
    """
    path = file_path("path", path)
    try:
        return _written(path, write)
    except OSError as error:
        if error.errno is not None:  # with the name that the user gave, not that of the part
            error.filename = os.fspath(path)
        raise


def _written(path: Path, write: Callable[[BinaryIO], None]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = path.with_name(f"{_prefix(path)}{_host()}-{os.getpid()}-{next(_counter)}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


@contextlib.contextmanager
def only_writer(name: str, path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Keep other processes from writing the same file for a while.

    Raises:
        ValueError: if another process is doing so.
    """
    if path is None or fcntl is None:
        yield
        return
    where = file_path(name, path)
    lock = where.with_name(f"{_prefix(where)}lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is writing {name}={os.fspath(path)!r} at this moment: wait for "
                "it, or give each its own file"
            ) from None
        except OSError:  # a file system without locks
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # its folder may be gone
                lock.unlink()
    finally:
        os.close(descriptor)


def _prefix(path: Path) -> str:
    """How names of files beside this one begin: short, since its own name may be very long."""
    return f".nb-{hashlib.blake2b(path.name.encode(), digest_size=6).hexdigest()}-"


def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _remove_leftovers(path: Path) -> None:
    for left in path.parent.glob(f"{_prefix(path)}{_host()}-*.part"):
        process = left.name.split("-")[3]
        if process.isdigit() and not _is_running(int(process)):
            left.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
