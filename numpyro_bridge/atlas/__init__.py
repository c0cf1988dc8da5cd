"""Where a posterior is: explored, divided into charts, mapped to nearly normal coordinates."""

from numpyro_bridge.atlas.atlas import Atlas, Witness
from numpyro_bridge.atlas.chart import chart
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.explore import Exploration, explore
from numpyro_bridge.atlas.maps import AbstractAffineMap, AbstractMap, DenseMap
from numpyro_bridge.atlas.partition import (
    AbstractPartition,
    MixturePartition,
    Piece,
    StudentPartition,
)
from numpyro_bridge.atlas.seen_target import Charts
from numpyro_bridge.atlas.standardisation import (
    MapFit,
    Standardisation,
    no_standardisation,
    standardise,
)
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.atlas.witness import temper

__all__ = [
    "AbstractAffineMap",
    "AbstractMap",
    "AbstractPartition",
    "Atlas",
    "ChartedTarget",
    "Charts",
    "DenseMap",
    "Exploration",
    "MapFit",
    "MixturePartition",
    "Piece",
    "Standardisation",
    "StandardisedTarget",
    "StudentPartition",
    "Witness",
    "chart",
    "explore",
    "no_standardisation",
    "standardise",
    "temper",
]
