"""Which stage a run is in, for whoever waits for it or interrupts it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tqdm.auto import tqdm

from numpyro_bridge._core.interrupts import noticed_interrupts, raise_interrupt
from numpyro_bridge._core.together import is_first


@dataclass
class _Stages:
    line: tqdm
    name: str | None = None


_present: ContextVar[_Stages | None] = ContextVar("present", default=None)


@contextmanager
def stages(shown: bool) -> Iterator[None]:
    """Show the stages that `stage` names, in a terminal or a notebook, until the block ends.

    Ctrl-C inside the block does not get lost, and where nothing is returned its exception says in
    which stage it came.

    Args:
        shown: Whether to show anything. Nothing is shown where the variable `CI` is set, and by
            other processes than the first one.
    """
    hidden = not (shown and is_first()) or "CI" in os.environ
    with (
        noticed_interrupts(),
        tqdm(bar_format="{desc} [{elapsed}]{postfix}", leave=False, disable=hidden) as line,
    ):
        inside = _Stages(line)
        token = _present.set(inside)
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if inside.name is not None and not hasattr(interrupt, "__notes__"):
                interrupt.add_note(
                    f"numpyro_bridge was interrupted while {inside.name}, and has nothing to return"
                )
            raise
        finally:
            _present.reset(token)


def stage(name: str, **numbers: float | int) -> None:
    """Name the stage that begins now; nothing happens outside of `stages`.

    Args:
        name: What is being done, such as "exploring".
        **numbers: What is known by now, such as `ess=0.5`.

    Raises:
        KeyboardInterrupt: if Ctrl-C was pressed in the stage before and has gone unnoticed.
    """
    raise_interrupt()
    present = _present.get()
    if present is None:
        return
    present.name = name
    present.line.set_postfix({key: f"{n:.3g}" for key, n in numbers.items()}, refresh=False)
    present.line.set_description_str(name)
