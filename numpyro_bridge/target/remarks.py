"""What a verdict should say of a model, whatever its draws are like."""

from collections.abc import Iterator

from numpyro_bridge.target.layout import Layout

COARSEST = 0.05
"""Nats by which rounding may move a log weight; more would hide what the weights say."""


def doubts(rounded: tuple[str, ...]) -> Iterator[str]:
    """Why the density is not the one that was meant."""
    if rounded:
        yield (
            f"The numbers of {', '.join(rounded)} need more than 32 bits: rounding moves them by "
            "more than a thousandth of their range. Call numpyro.enable_x64() at the start, or "
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


def notes(layout: Layout) -> Iterator[str]:
    """What a user should know, without reason for doubt."""
    if layout.improper:
        yield (
            f"There is no log evidence, since the prior of {', '.join(layout.improper)} is improper."
        )
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
