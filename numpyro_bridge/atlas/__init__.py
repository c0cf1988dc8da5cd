"""Where the posterior is: maps to where it is nearly normal, and how they are fitted."""

from numpyro_bridge.atlas.affine import AbstractAffineMap, DenseMap
from numpyro_bridge.atlas.maps import AbstractMap
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
