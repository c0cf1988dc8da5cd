"""Where the posterior is: maps to coordinates in which it is nearly normal, and their fits."""

from numpyro_bridge.atlas.maps import AbstractAffineMap, AbstractMap, DenseMap
from numpyro_bridge.atlas.standardisation import (
    MapFit,
    Standardisation,
    no_standardisation,
    standardise,
)
from numpyro_bridge.atlas.standardised_target import StandardisedTarget

__all__ = [
    "AbstractAffineMap",
    "AbstractMap",
    "DenseMap",
    "MapFit",
    "Standardisation",
    "StandardisedTarget",
    "no_standardisation",
    "standardise",
]
