"""What a verdict should say of a model, whatever its draws are like."""

from collections.abc import Iterator


def doubts(rounded: tuple[str, ...]) -> Iterator[str]:
    """Why the density is not the one that was meant."""
    if rounded:
        yield (
            f"The numbers of {', '.join(rounded)} need more than 32 bits: rounding moves them by "
            "more than a thousandth of their range. Call numpyro.enable_x64() at the start, or "
            "subtract their mean before."
        )


def notes(improper: tuple[str, ...], held: tuple[str, ...]) -> Iterator[str]:
    """What a user should know, without reason for doubt."""
    if improper:
        yield f"There is no log evidence, since the prior of {', '.join(improper)} is improper."
    if held:
        yield (
            f"{', '.join(held)} stays at its initial value, which changes the coordinates and not "
            "the posterior."
        )
