"""Every public argument, given what users give by mistake: it works, or the error names it."""

import pytest

from tests.arguments.public import arguments, is_no_door, public
from tests.arguments.tables import DOORS, cells
from tests.arguments.world import World

PUBLIC = dict(public())


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture
def as_users_see_it(as_users, monkeypatch, tmp_path):
    """Without the checks of shapes that only tests have, and in a folder of their own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("door", DOORS)
def test_what_is_given_to_an_argument_works_or_is_refused_by_its_name(door, world, as_users_see_it):
    wrong = [cell for cell in cells(door, world) if cell.got != cell.expected]
    lines = [f"{c.argument} [{c.probe}]: expected {c.expected}, got {c.got}" for c in wrong]
    assert not wrong, "\n".join(lines)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_argument_has_a_row(name):
    """An argument that is added later needs one in a table; see `tests.arguments.public`."""
    needed = arguments(name, PUBLIC[name])
    if name in DOORS:
        assert set(DOORS[name].kinds) == set(needed)
    else:
        assert not needed or is_no_door(name, PUBLIC[name])


def test_every_row_is_that_of_something_public():
    assert not [name for name in DOORS if name not in PUBLIC and "()" not in name]
