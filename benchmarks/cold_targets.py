"""The targets of the cold-start benchmark, by name, from the modules that define them."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import atlas_targets, densities, large_models, posteriordb, targets

REFERENCE_TARGETS = (
    "eight_schools",
    "seeds",
    "sonar",
    "ionosphere",
    "german_credit",
    "brownian",
)
POSTERIORDB_TARGETS = (
    "arK",
    "gp_regr",
    "kidscore_interaction",
    "logmesquite_logvash",
    "garch11",
    "low_dim_gauss_mix",
)
LARGE_TARGETS = (
    "hierarchy_100d",
    "item_response_120d",
    "process_classifier_300d",
    "hierarchy_400d",
    "horseshoe_401d",
    "item_response_500d",
    "cox_40",
)
NAMES = (*REFERENCE_TARGETS, *POSTERIORDB_TARGETS, *LARGE_TARGETS)


def load(name: str, data: Path) -> Any:
    """The model with its data, and its log evidence where that is known."""
    if name in REFERENCE_TARGETS:
        return targets.load(name, data)
    if name in POSTERIORDB_TARGETS:
        return posteriordb.load(name, data)
    if name in large_models.LOADERS:
        model, kwargs = large_models.load(name)
        return targets.Benchmark(name, model, kwargs, targets.Reference(np.nan, {}, {}))
    density = densities.LOADERS[name](data)
    known = targets.Reference(density.log_evidence, {}, {})
    return targets.Benchmark(name, atlas_targets.model_of(density.target), {}, known)
