"""The arguments that studies share, so that `--data`, `--targets` and `--keys` mean one thing."""

import argparse
from collections.abc import Iterable
from pathlib import Path


def parser(docstring: str | None, *, data: bool = True) -> argparse.ArgumentParser:
    """A parser to which a study adds what it alone needs.

    Args:
        docstring: The docstring of the study's module; `--help` shows its first line.
        data: Whether the study reads the folder of the benchmark data.
    """
    made = argparse.ArgumentParser(description=(docstring or "").partition("\n")[0])
    if data:
        made.add_argument("--data", type=Path, required=True, help="folder of the benchmark data")
    return made


def add_targets(
    made: argparse.ArgumentParser, names: Iterable[str], default: Iterable[str] | None = None
) -> None:
    """Let the user choose among the targets; without a default, all of them are run."""
    names = list(names)
    default = names if default is None else list(default)
    made.add_argument(
        "--targets", nargs="+", choices=names, default=default, help="which targets are run"
    )


def add_keys(made: argparse.ArgumentParser, default: Iterable[int]) -> None:
    """Let the user choose the random keys, one run for each."""
    made.add_argument(
        "--keys", nargs="+", type=int, default=list(default), help="one run for each of these keys"
    )


def add_output(made: argparse.ArgumentParser, folder: Path) -> None:
    """Let the user write the results elsewhere than beside the study."""
    made.add_argument("--output", type=Path, default=folder, help="folder of what is written")
