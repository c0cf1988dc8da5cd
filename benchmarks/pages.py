"""Results as Markdown pages: their tables, and where the numbers come from."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [line(columns), "|---" * len(columns) + "|", *map(line, rows)]


def line(cells: Iterable[str]) -> str:
    """One row of a table."""
    return f"| {' | '.join(cells)} |"


def write(path: Path, lines: Iterable[str]) -> None:
    """Write a page, and print it."""
    text = "\n".join(lines)
    path.write_text(text + "\n")
    print(text)


def commit_and_machine() -> dict[str, str]:
    """What a row of results keeps of where it was measured.

    Where the sources have no Git history, the commit is read from the variable `COMMIT`.
    """
    import jax

    command = ["git", "describe", "--always", "--dirty"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        commit = run.stdout.strip()
    except FileNotFoundError:  # a machine without Git
        commit = ""
    device = jax.devices()[0].device_kind
    return {
        "commit": commit or os.environ.get("COMMIT", ""),
        "machine": f"{device} {platform.machine()}",
    }


def measured_on(rows: Iterable[dict] | None = None) -> str:
    """A sentence with the machines and the commits of these rows, or of the present run."""
    rows = [commit_and_machine()] if rows is None else list(rows)
    machines, commits = (", ".join(distinct(rows, name)) for name in ("machine", "commit"))
    return f"Machine: {machines}; commit: {commits}."


def distinct(rows: Iterable[dict], name: str) -> list[str]:
    """The values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(row[name] for row in rows))
