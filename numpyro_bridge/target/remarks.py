"""What a verdict should say of a model, whatever its draws are like."""

from collections.abc import Iterator
from typing import NamedTuple

from numpyro_bridge.target.layout import Layout

COARSEST = 0.05
"""Nats by which rounding may move a log weight; more would hide what the weights say."""


class OddData(NamedTuple):
    """What JAX silently makes of some of the data; hashable, and without the data."""

    rounded: tuple[str, ...] = ()
    """Names of the arrays that are not what they were, at the precision of JAX."""
    outside: tuple[str, ...] = ()
    """Indices that lie outside of the array they point into, in words."""


def doubts(odd: OddData) -> Iterator[str]:
    """Why the density is not the one that was meant."""
    if odd.rounded:
        yield (
            f"The numbers of {', '.join(odd.rounded)} need more than 32 bits: rounding moves them "
            "by more than a thousandth of their range. Call numpyro.enable_x64() at the start, or "
            "subtract their mean before."
        )


def coarse(resolution: float) -> Iterator[str]:
    """Why differences of log densities are not to be trusted: neighbours are this far apart."""
    if resolution > COARSEST:
        yield (
            "The log density, or one part of it, is so large that 32 bits know it to "
            f"{resolution:.2g} nats only. Call numpyro.enable_x64() at the start, or subtract a "
            "constant from the log density."
        )


def notes(layout: Layout, odd: OddData) -> Iterator[str]:
    """What a user should know, without reason for doubt."""
    if not (layout.observes or layout.has_factors):
        yield "The model observes nothing, so this is its prior: was its data left out of the call?"
    if layout.improper:
        names = ", ".join(layout.improper)
        yield f"There is no log evidence, since the prior of {names} is improper."
    if layout.held:
        yield (
            f"{', '.join(layout.held)} stays at its initial value, which changes the coordinates "
            "and not the posterior."
        )
    if layout.empty:
        yield f"There is not a single value in {', '.join(layout.empty)}, which teaches nothing."
    for site in layout.crossed:
        yield (
            f"{site.name} has values of shape {site.values} and distributions of shape "
            f"{site.distributions}: each value is scored under several of them. Give both the same "
            "shape, if that is not meant."
        )
    yield from about_indices(odd.outside)


def about_indices(outside: tuple[str, ...]) -> Iterator[str]:
    """Say so if indices of the model lie outside of their arrays."""
    if outside:
        yield (
            f"Indices lie outside of their array: {'; '.join(outside)}. JAX raises no error, and "
            "takes the nearest element, or NaN. Count from zero: the first group is 0."
        )
