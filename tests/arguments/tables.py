"""All doors, by their names below `numpyro_bridge`, and what comes of trying them."""

from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.arguments import (
    table_diffusion,
    table_draws,
    table_infer,
    table_processes,
    table_targets,
)
from tests.arguments.doors import REFUSED, WORKS, outcome
from tests.arguments.public import arguments, public
from tests.arguments.world import World

DOORS = {
    **table_targets.DOORS,
    **table_processes.DOORS,
    **table_diffusion.DOORS,
    **table_infer.DOORS,
    **table_draws.DOORS,
}


class Cell(NamedTuple):
    """One value that is tried for one argument."""

    door: str
    argument: str
    probe: str
    expected: str
    got: str


class Counts(NamedTuple):
    """How many arguments and cells there are, and what came of them."""

    doors: int
    """Functions, constructors and methods that were called."""
    arguments: int
    """Their arguments."""
    cells: int
    """Values that were tried for an argument."""
    working: int
    refused: int
    """Refused by a sentence that names the argument."""
    failing: int
    """All others."""
    left_out: int
    """Public arguments of records, and of what compiled code alone calls."""


def cells(door: str, world: World) -> Iterator[Cell]:
    """Try all values for all arguments of a door."""
    for argument, kind in DOORS[door].kinds.items():
        for probe, value in kind.probes().items():
            expected = WORKS if probe in kind.accepted else REFUSED
            yield Cell(
                door, argument, probe, expected, outcome(DOORS[door], world, argument, value)
            )


def counts() -> Counts:
    """Try everything, and count; it takes about half a minute."""
    world = World()
    # Some doors write files, and some print.
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        tried = [cell for door in DOORS for cell in cells(door, world)]
    as_expected = [cell for cell in tried if cell.got == cell.expected]
    return Counts(
        doors=len(DOORS),
        arguments=sum(len(door.kinds) for door in DOORS.values()),
        cells=len(tried),
        working=sum(cell.got == WORKS for cell in as_expected),
        refused=sum(cell.got == REFUSED for cell in as_expected),
        failing=len(tried) - len(as_expected),
        left_out=sum(len(arguments(*each)) for each in public() if each[0] not in DOORS),
    )
