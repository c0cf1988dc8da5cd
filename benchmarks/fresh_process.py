"""Run one row of a study in a process of its own."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence


def row_or_reason(
    command: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None
) -> dict | str:
    """The row that a command prints as JSON in its last line, or why there is none.

    Args:
        command: The command and its arguments.
        timeout: Seconds after which it is stopped.
        environment: Variables that are set besides those of this process.
    """
    variables = {**os.environ, **(environment or {})}
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=variables
        )
    except subprocess.TimeoutExpired:
        return f"no result after {timeout:g} seconds"
    if run.returncode == 0:
        return json.loads(run.stdout.splitlines()[-1])
    return _last_error(run.stderr) or f"exit status {run.returncode}"


def _last_error(text: str) -> str:
    """The last line that names an error, else the last line; a table has no room for more."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return next(reversed([*lines[-1:], *errors[-1:]]), "").replace("|", "/")[:200]
