"""A trained bridge side by side with NUTS: parameters, costs, and whether the two agree."""

from numpyro_bridge.comparison.side_by_side import Comparison, compare_with_nuts
from numpyro_bridge.comparison.tables import COST_LABELS

__all__ = ["COST_LABELS", "Comparison", "compare_with_nuts"]
