"""A benchmark that is a table with a row for each case: arguments, rows and file."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path


def write(
    description: str,
    cases: Iterable[str],
    measure: Callable[[str, Path], str],
    head: list[str],
    table: Path,
) -> None:
    """Measure the cases that are asked for, print each row, and write the table.

    Args:
        description: The first line is shown by `--help`.
        cases: Their names; all are run by default.
        measure: From the name of a case and the data folder to a row.
        head: Lines above the rows.
        table: File to write.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark data")
    parser.add_argument("--cases", nargs="+", default=[*cases], choices=[*cases])
    options = parser.parse_args()
    lines = list(head)
    for case in options.cases:
        lines.append(measure(case, options.data))
        print(lines[-1], flush=True)
    table.write_text("\n".join(lines) + "\n")
