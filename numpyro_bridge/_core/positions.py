"""Positions in words: which of many stands for the others, and its first coordinates."""

import numpy as np
from jaxtyping import Float

MOST_COORDINATES = 6
"""Coordinates that a sentence has room for."""


def in_words(position: Float[np.ndarray, " dim"]) -> str:
    """The first coordinates of a position, with dots where there are more."""
    shown = [f"{x:.3g}" for x in position[:MOST_COORDINATES]]
    more = ["..."] if len(position) > MOST_COORDINATES else []
    return f"[{', '.join(shown + more)}]"


def middle_one(positions: Float[np.ndarray, "num dim"]) -> Float[np.ndarray, " dim"]:
    """The position that is nearest to the median of all: between several modes there may be none.

    Args:
        positions: At least one position, one a row.
    """
    scale = np.std(positions, axis=0)
    away = (positions - np.median(positions, axis=0)) / np.where(scale > 0, scale, 1.0)
    return positions[np.argmin(np.sum(away**2, axis=1))]
