"""Files are written whole or not at all, by one process, and errors come before the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from numpyro_bridge._core import writing
from numpyro_bridge._core.writing import check_writable, only_writer, write_atomically


def writer(content: bytes):
    """A function that writes `content` to the file it is given."""

    def write(file) -> None:
        file.write(content)

    return write


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    write_atomically(path, writer(b"old"))

    def fail(file):
        file.write(b"new, but only half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        write_atomically(path, writer(content))
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    before = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "file", writer(b"x"))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_one(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_atomically(link, writer(b"new"))
    assert link.is_symlink() and real.read_bytes() == b"new"


def test_what_a_killed_writer_left_is_removed_and_what_a_running_one_has_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    prefix = f"{writing._prefix(tmp_path / 'file')}{writing._host()}"
    left, used = (tmp_path / f"{prefix}-{pid}-0.part" for pid in (ended.pid, os.getppid()))
    left.touch()
    used.touch()
    path = write_atomically(tmp_path / "file", writer(b"x"))
    assert sorted(tmp_path.iterdir()) == sorted([path, used])


@pytest.mark.parametrize("path", [b"bytes", 1, True, None, 1.5, ["file"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ValueError, match="checkpoint should be the path of a file, such as"):
        check_writable("checkpoint", path)


@pytest.mark.parametrize(
    "path, reason",
    [
        ("x" * 300, "File name too long"),
        ("file/below", "exists|Not a directory"),
        ("folder", "'.*folder' is a folder"),
        ("nul\0byte", "should be the path of a file"),
        ("pipe", "'.*pipe' is a device, a pipe or a socket"),
    ],
)
def test_where_nothing_can_be_written_is_said_before(tmp_path, path, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=reason):
        check_writable("checkpoint", str(tmp_path / path))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder", "pipe"]


def test_a_path_that_only_a_shell_understands_is_refused():
    with pytest.raises(ValueError, match=r"a folder of the name '~': write path='.+/fit.bridge'"):
        write_atomically("~/fit.bridge", writer(b"x"))


def test_a_failure_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / ("x" * 300)
    with pytest.raises(OSError, match="File name too long") as caught:
        write_atomically(path, writer(b"x"))
    assert caught.value.filename == str(path)


def test_a_path_that_can_be_written_is_left_as_it_was(tmp_path):
    check_writable("checkpoint", tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
    longest = tmp_path / ("x" * 255)
    check_writable("checkpoint", longest)
    assert write_atomically(longest, writer(b"x")).read_bytes() == b"x"


def test_a_second_process_is_told(tmp_path):
    path = tmp_path / "file"
    code = (
        "from numpyro_bridge._core.writing import only_writer\n"
        f"with only_writer('checkpoint', {str(path)!r}): pass"
    )

    def second():
        root = Path(__file__).parents[2]
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=root
        )

    with only_writer("checkpoint", path):
        run = second()
        assert run.returncode != 0 and "another process is writing checkpoint=" in run.stderr
    assert second().returncode == 0
    assert list(tmp_path.iterdir()) == []
