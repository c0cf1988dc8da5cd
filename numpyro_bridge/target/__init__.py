"""The density a sampler aims at: a NumPyro model, or any function, on flat unconstrained vectors.

The rest of the package sees a `Target`: it can be evaluated at a position, and its positions can be
turned into named, constrained values. Only this folder reads a NumPyro model.
"""

from numpyro_bridge.target.base import Target, TargetWrapper
from numpyro_bridge.target.from_model import target_from_model
from numpyro_bridge.target.log_density import LogDensityTarget, target_from_log_density
from numpyro_bridge.target.model import ModelTarget
from numpyro_bridge.target.point import REPLACED_LOG_DENSITY, Point, Prior
from numpyro_bridge.target.sites import joined_in_order
from numpyro_bridge.target.starting_points import repeat_good_rows

__all__ = [
    "REPLACED_LOG_DENSITY",
    "LogDensityTarget",
    "ModelTarget",
    "Point",
    "Prior",
    "Target",
    "TargetWrapper",
    "joined_in_order",
    "repeat_good_rows",
    "target_from_log_density",
    "target_from_model",
]
