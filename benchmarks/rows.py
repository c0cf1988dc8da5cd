"""Results as rows of a CSV file, so that an interrupted study goes on where it was."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np


def read(path: Path) -> list[dict]:
    """The rows of a file; none if it does not exist yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict) -> None:
    """Add one row to a file.

    Raises:
        ValueError: if the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = read(path)
    if earlier and list(earlier[0]) != list(row):
        raise ValueError(
            f"{path.name} has the columns {list(earlier[0])}, this result has {list(row)}: it was "
            "written by another version of the study; move it away and begin anew"
        )
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if not earlier:
            writer.writeheader()
        writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()})


def missing(cases: Iterable, path: Path) -> list:
    """The cases, as named tuples, for which the file has no row yet."""
    cases = list(cases)
    if not cases:
        return []
    fields = type(cases[0])._fields
    done = {tuple(row[field] for field in fields) for row in read(path)}
    return [case for case in cases if tuple(map(str, case)) not in done]


def complete(
    path: Path,
    cases: Iterable,
    measure: Callable[..., dict],
    shown: Sequence[str] = ("gap", "ess", "seconds"),
) -> list[dict]:
    """Measure each case that the file lacks, and return all rows of the file.

    Args:
        path: The file; each row is kept as soon as it is there.
        cases: Named tuples whose fields are columns of the file.
        measure: From a case to its row.
        shown: Columns that are printed beside the case, where the row has them.
    """
    for case in missing(cases, path):
        row = measure(case)
        append(path, row)
        known = (name for name in shown if isinstance(row.get(name), float | int))
        numbers = (f"{name} {row[name]:.3g}" for name in known)
        print(*case, *numbers, flush=True)
    return read(path)


def select(rows: list[dict], **values) -> list[dict]:
    """The rows that have these values."""
    return [row for row in rows if all(row[name] == str(v) for name, v in values.items())]


def column(rows: list[dict], name: str) -> np.ndarray:
    """The numbers of a column; NaN where a row has none."""
    return np.asarray([float(row[name] or "nan") for row in rows])


def number(row: dict, name: str, digits: str) -> str:
    """A number of a row in this format; empty where the row has none."""
    return format(float(row[name]), digits) if row[name] else ""


def with_error(row: dict, name: str) -> str:
    """A number of a row with its standard error; empty where the row has none."""
    found = number(row, name, ".3f")
    return found and f"{found} ± {number(row, f'{name}_error', '.3f')}"


def over_keys(rows: list[dict], name: str, digits: int = 3) -> str:
    """The mean of a column, and its standard deviation where there are several rows."""
    values = column(rows, name)
    if not values.size or np.all(np.isnan(values)):
        return ""
    text = _short(float(np.mean(values)), digits)
    return text if len(values) == 1 else f"{text} ± {_short(float(np.std(values, ddof=1)), digits)}"


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.1e}"
