"""Compare a posterior with NUTS, models by their evidence, and a sampler with simulated truths."""

from numpyro_bridge.compare.calibrate import calibrate
from numpyro_bridge.compare.costs import Costs
from numpyro_bridge.compare.leave_out import LeftOut, leave_out
from numpyro_bridge.compare.models import ModelComparison, compare_models
from numpyro_bridge.compare.nuts import NutsRun, blackjax_nuts, numpyro_nuts
from numpyro_bridge.compare.side_by_side import Comparison, compare_with_nuts

__all__ = [
    "Comparison",
    "Costs",
    "LeftOut",
    "ModelComparison",
    "NutsRun",
    "blackjax_nuts",
    "calibrate",
    "compare_models",
    "compare_with_nuts",
    "leave_out",
    "numpyro_nuts",
]
