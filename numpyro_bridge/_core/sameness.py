"""Which objects are the same to compiled code, so that what was compiled for one serves another."""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from types import FunctionType, MethodType
from typing import Any


@dataclass(frozen=True, eq=False)
class Same:
    """A constant of compiled code, equal to another if their identities are.

    Args:
        value: Any object.
    """

    value: Any

    def __eq__(self, other: object) -> bool:
        return type(other) is Same and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    @cached_property
    def identity(self) -> Any:
        """What `identity_of` says of the value when it is first asked."""
        return identity_of(self.value)

    def __reduce__(self):
        """Leave out the identity, since a copy out of a file is another object."""
        return Same, (self.value,)


def identity_of(value: Any) -> Any:
    """A hashable stand-in for an object: two objects do the same where theirs are equal.

    A function that is defined anew, by another call of the function around it or by a notebook cell
    that is run again, is the same if its code, its defaults and the variables that it closes over
    are. What it reads from globals is not compared: whoever keeps compiled code has to see to that,
    as `target.readings` does. Other objects are compared by their type and value or, where they
    have no hash, by which object they are.
    """
    return _identity(value, ())


@dataclass(frozen=True, eq=False)
class _Object:
    """One object and no other; it is kept, so that no other is given its `id`."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return type(other) is _Object and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _identity(value: Any, around: tuple[int, ...]) -> Any:
    if id(value) in around:  # a function that refers to itself
        return "itself", len(around) - around.index(id(value))
    inside = (*around, id(value))
    kind = type(value)
    if kind is FunctionType and not vars(value):
        return kind, value.__code__, _Object(value.__globals__), _surroundings(value, inside)
    if kind is MethodType:
        return kind, _identity(value.__func__, inside), _identity(value.__self__, inside)
    if kind is partial and not vars(value):
        keywords = tuple((name, _identity(v, inside)) for name, v in value.keywords.items())
        return kind, _identity(value.func, inside), _identity(value.args, inside), keywords
    if kind is float:
        # Zero has two signs, which are equal in Python; no NaN is equal to itself.
        return kind, math.copysign(1.0, value), None if math.isnan(value) else value
    if kind is tuple or isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind, tuple(_identity(item, inside) for item in value)
    try:
        hash(value)
    except TypeError:  # a data frame, or an array
        return _Object(value)
    # The type counts too: 2 and 2.0 are equal in Python, but a model may tell them apart.
    return kind, value


def _surroundings(function: FunctionType, inside: tuple[int, ...]) -> Any:
    """What a function has from where it was defined: defaults, and what it closes over."""
    defaults = tuple(_identity(value, inside) for value in function.__defaults__ or ())
    keywords = function.__kwdefaults__ or {}
    named = tuple((name, _identity(value, inside)) for name, value in keywords.items())
    cells = tuple(_in_cell(cell, inside) for cell in function.__closure__ or ())
    return defaults, named, cells


def _in_cell(cell: Any, inside: tuple[int, ...]) -> Any:
    try:
        return _identity(cell.cell_contents, inside)
    except ValueError:  # a variable that has no value yet
        return "empty"
