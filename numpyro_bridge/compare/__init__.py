"""Compare a posterior with NUTS, and models by their evidence."""

from numpyro_bridge.compare.costs import Costs
from numpyro_bridge.compare.models import ModelComparison, compare_models
from numpyro_bridge.compare.nuts import NutsRun, blackjax_nuts, numpyro_nuts
from numpyro_bridge.compare.side_by_side import Comparison, compare_with_nuts

__all__ = [
    "Comparison",
    "Costs",
    "ModelComparison",
    "NutsRun",
    "blackjax_nuts",
    "compare_models",
    "compare_with_nuts",
    "numpyro_nuts",
]
