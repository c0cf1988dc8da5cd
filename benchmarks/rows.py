"""Results as rows of a CSV file, so that an interrupted study goes on where it was."""

import csv
import platform
import subprocess
from pathlib import Path

import numpy as np


def read(path: Path) -> list[dict]:
    """What has been run so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict) -> None:
    """Keep one result.

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


def missing(cases, path: Path) -> list:
    """Those of the named tuples that no row of the file has all fields of."""
    cases = list(cases)
    if not cases:
        return []
    fields = type(cases[0])._fields
    done = {tuple(row[field] for field in fields) for row in read(path)}
    return [case for case in cases if tuple(map(str, case)) not in done]


def where() -> dict[str, str]:
    """Commit and kind of machine."""
    import jax

    command = ["git", "describe", "--always", "--dirty"]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    device = jax.devices()[0].device_kind
    return {"commit": run.stdout.strip(), "machine": f"{device} {platform.machine()}"}


def select(rows: list[dict], **values) -> list[dict]:
    """Rows with these values."""
    return [row for row in rows if all(row[name] == str(v) for name, v in values.items())]


def column(rows: list[dict], name: str) -> np.ndarray:
    """Numbers of a column; NaN where there is none."""
    return np.asarray([float(row[name] or "nan") for row in rows])


def over_keys(rows: list[dict], name: str, digits: int = 3) -> str:
    """Mean of a column, and its standard deviation where there are several rows."""
    values = column(rows, name)
    if not values.size or np.all(np.isnan(values)):
        return ""
    text = _short(float(np.mean(values)), digits)
    return text if len(values) == 1 else f"{text} ± {_short(float(np.std(values, ddof=1)), digits)}"


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.1e}"
