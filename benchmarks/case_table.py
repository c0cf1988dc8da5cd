"""A study whose result is a table with one row for each target, measured in one go."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import command_line, pages


def run(
    docstring: str | None,
    targets: Iterable[str],
    measure: Callable[[str, Path], Sequence[str]],
    *,
    title: str,
    notes: Sequence[str],
    columns: Sequence[str],
    path: Path,
) -> None:
    """Measure the targets that the command line asks for, print each row, and write the page.

    Args:
        docstring: The docstring of the study's module; `--help` shows its first line.
        targets: Their names; all are run by default.
        measure: From the name of a target and the data folder to the cells of its row.
        title: The heading of the page.
        notes: Paragraphs between the heading and the table.
        columns: The heads of the columns.
        path: The file to write.
    """
    parser = command_line.parser(docstring)
    command_line.add_targets(parser, targets)
    options = parser.parse_args()
    rows = []
    for target in options.targets:
        rows.append(measure(target, options.data))
        print(pages.line(rows[-1]), flush=True)
    paragraphs = [text for note in notes for text in ("", note)]
    heading = [f"# {title}", *paragraphs, "", pages.measured_on(), ""]
    pages.write(path, [*heading, *pages.table(columns, rows)])
