"""A door: something public that a user calls, and what happens when it is called."""

import contextlib
import importlib
import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx

import numpyro_bridge as nb
from tests.arguments.kinds import Kind

PACKAGE = Path(nb.__file__).parent
HERE = Path(__file__).parent


class Reached(Exception):
    """Raised in place of a stage that would take long: the arguments have been accepted."""


@dataclass(frozen=True)
class Door:
    """Something public that a user calls.

    Attributes:
        function: What is called, as a function of what all doors share, since methods need objects.
        valid: Arguments that work, by name, as a function of what all doors share.
        kinds: What each argument takes, by name.
        stops: Stages, as `module:attribute`, that are not run to their end.
        traced: Whether the call is only traced, which runs all of it but the arithmetic.
    """

    function: Callable[[Any], Callable]
    valid: Callable[[Any], dict[str, Any]]
    kinds: Mapping[str, Kind]
    stops: tuple[str, ...] = ()
    traced: bool = False

    def call(self, world: Any, changed: dict[str, Any]) -> Any:
        """Call the door with some of its arguments changed."""
        function = self.function(world)
        args, kwargs = _arranged(function, self.valid(world) | changed)
        with _stopped(self.stops):
            if self.traced:
                return eqx.filter_eval_shape(lambda: function(*args, **kwargs))
            return function(*args, **kwargs)


def _arranged(function: Callable, values: dict[str, Any]) -> tuple[list, dict[str, Any]]:
    """Split arguments into those that go by position and those that go by name."""
    args, kwargs = [], dict(values)
    parameters = inspect.signature(function).parameters
    by_position = {p.name for p in parameters.values() if p.kind is p.POSITIONAL_ONLY}
    if any(p.kind is p.VAR_POSITIONAL and p.name in kwargs for p in parameters.values()):
        by_position |= {p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD}
    for name, parameter in parameters.items():
        if name in by_position and name in kwargs:
            args.append(kwargs.pop(name))
        elif parameter.kind is parameter.VAR_POSITIONAL and name in kwargs:
            args.extend(kwargs.pop(name))
        elif parameter.kind is parameter.VAR_KEYWORD and name in kwargs:
            kwargs |= kwargs.pop(name)
    return args, kwargs


def reached(*args: Any, **kwargs: Any):
    """Stand in for a stage that would take long."""
    raise Reached


@contextlib.contextmanager
def _stopped(stops: tuple[str, ...]) -> Iterator[None]:
    """Let stages raise `Reached` when they are called."""
    kept = []
    for stop in stops:
        module, _, attribute = stop.partition(":")
        *path, name = attribute.split(".")
        owner: Any = importlib.import_module(f"numpyro_bridge.{module}")
        for step in path:
            owner = getattr(owner, step)
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, reached)
    try:
        yield
    finally:
        for owner, name, stage in kept:
            setattr(owner, name, stage)


WORKS, REFUSED = "works", "refused"


def outcome(door: Door, world: Any, argument: str, value: Any) -> str:
    """What happens when one argument is changed: it works, is refused, or what went wrong.

    Refused means that this package raised a ValueError or a TypeError that names the argument.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            door.call(world, {argument: value})
    except Reached:
        return WORKS
    except (ValueError, TypeError) as error:
        return _judged(error, argument)
    except Exception as error:
        return f"{type(error).__name__}: {_first_line(error)}"
    return WORKS


def _judged(error: Exception, argument: str) -> str:
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if PACKAGE not in raised_in.parents:
        return f"raised in {raised_in.name}: {_first_line(error)}"
    if not re.search(rf"(?<!\w){re.escape(argument)}(?!\w)", str(error)):
        return f"without the name: {_first_line(error)}"
    return REFUSED


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:160]
