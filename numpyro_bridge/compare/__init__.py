"""A posterior beside NUTS, and models by their evidence."""

from numpyro_bridge.compare.models import ModelComparison, compare_models
from numpyro_bridge.compare.nuts import NutsRun, blackjax_nuts, numpyro_nuts
from numpyro_bridge.compare.side_by_side import Comparison, compare_with_nuts
from numpyro_bridge.compare.tables import COST_LABELS

__all__ = [
    "COST_LABELS",
    "Comparison",
    "ModelComparison",
    "NutsRun",
    "blackjax_nuts",
    "compare_models",
    "compare_with_nuts",
    "numpyro_nuts",
]
