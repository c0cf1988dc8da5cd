"""The names and labels that dimensions have in an ArviZ object."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array

from numpyro_bridge._core.checks import check_mapping, described
from numpyro_bridge.target import ModelTarget, Target

RESERVED_DIMS = ("chain", "draw", "sample")
"""Names of dimensions that have a meaning of their own in ArviZ."""


def names_of_dims(
    target: Target, sites: Mapping[str, Array], coords: Any, dims: Any
) -> dict[str, list[str | None]]:
    """The names of dimensions by site: those of the model's plates, or in their place those given.

    Args:
        target: The target, which knows its plates if it is of a model.
        sites: Draws of each site, the first dimension over draws.
        coords: Labels of dimensions, as a user gave them.
        dims: Names of dimensions, as a user gave them.

    Raises:
        ValueError: if these are no dictionaries of lists, or do not fit the shapes of the sites.
    """
    check_labels("coords", coords)
    check_labels("dims", dims)
    given = {
        site: [name for name in names if name not in ("chain", "draw")]  # ArviZ adds these itself
        for site, names in (dims or {}).items()
    }
    names = _dims_of_plates(target) | given
    _check_fit({name: value.shape[1:] for name, value in sites.items()}, names, coords or {})
    return names


def check_labels(name: str, labels: Any) -> None:
    """Raise a ValueError unless this is a dictionary of lists, or None."""
    if labels is None:
        return
    such_as = '{"school": ["Choate", "Deerfield"]}' if name == "coords" else '{"theta": ["school"]}'
    check_mapping(name, labels, such_as)
    for key, value in labels.items():
        if isinstance(value, str) or np.ndim(value) != 1:
            got = described(value)
            raise ValueError(f"{name}[{key!r}] must be a list, as in {such_as}, got {got}")


def _dims_of_plates(target: Target) -> dict[str, list[str | None]]:
    if not isinstance(target, ModelTarget):
        return {}
    return {
        site: [f"{name}_plate" if name in RESERVED_DIMS else name for name in names]
        for site, names in target.dims.items()
    }


def _check_fit(
    shapes: Mapping[str, tuple[int, ...]],
    dims: Mapping[str, Sequence[str | None]],
    coords: Mapping[str, Sequence[Any]],
) -> None:
    """Raise a ValueError where names or labels do not fit the values.

    Args:
        shapes: The shape of one draw of each site.
        dims: The names of dimensions, by site; those of other sites are passed over. ArviZ calls
            a dimension without a name `SITE_dim_NUMBER`.
        coords: The labels of dimensions, by name.
    """
    known: dict[str, tuple[str, int]] = {}
    for site, shape in shapes.items():
        given = dims.get(site, ())
        if len(given) > len(shape):
            raise ValueError(
                f"dims[{site!r}] has {len(given)} names besides those of chains and draws, but "
                f"{site} has {len(shape)} dimensions (shape {shape}): give one name to each"
            )
        names = [*given, *[None] * (len(shape) - len(given))]
        for number, (name, size) in enumerate(zip(names, shape, strict=True)):
            name = name or f"{site}_dim_{number}"
            if name in coords and len(coords[name]) != size:
                raise ValueError(
                    f"coords[{name!r}] has {len(coords[name])} labels, but dimension {name!r} of "
                    f"{site} has {size} entries: give one label to each"
                )
            other, other_size = known.setdefault(name, (site, size))
            if size != other_size:
                raise ValueError(
                    f"dimension {name!r} has {other_size} entries in {other} and {size} in {site}: "
                    "give them different names in dims"
                )
