"""The density a sampler aims at: a NumPyro model, or any function, on flat unconstrained vectors.

The rest of the package sees a `Target`: it can be evaluated at a position, and its positions can be
turned into named, constrained values. Only this folder reads a NumPyro model.
"""

from numpyro_bridge.target.base import (
    REPLACED_LOG_DENSITY,
    Point,
    Prior,
    Target,
    TargetWrapper,
    repeat_good_rows,
)
from numpyro_bridge.target.log_density import LogDensityTarget, target_from_log_density
from numpyro_bridge.target.model import ModelTarget, joined_in_order, target_from_model

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
