"""Which stage a run is in, for whoever waits for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm.auto import tqdm

_line: ContextVar[tqdm | None] = ContextVar("line", default=None)


@contextmanager
def stages(shown: bool) -> Iterator[None]:
    """Show the stages that `stage` names, in a terminal or a notebook, until the block ends.

    Args:
        shown: Whether to show anything; where the variable `CI` is set, nothing is shown.
    """
    hidden = not shown or "CI" in os.environ
    with tqdm(bar_format="{desc} [{elapsed}]{postfix}", leave=False, disable=hidden) as line:
        token = _line.set(line)
        try:
            yield
        finally:
            _line.reset(token)


def stage(name: str, **numbers: float | int) -> None:
    """Name the stage that begins now; nothing happens where no stages are shown.

    Args:
        name: What is being done, such as "exploring".
        **numbers: What is known by now, such as `ess=0.5`.
    """
    line = _line.get()
    if line is None:
        return
    line.set_postfix({key: f"{value:.3g}" for key, value in numbers.items()}, refresh=False)
    line.set_description_str(name)
