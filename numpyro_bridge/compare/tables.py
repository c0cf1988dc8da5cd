"""Data frames of the parameters and the costs of both samplers."""

from typing import Any

import numpy as np

from numpyro_bridge.compare.costs import Costs
from numpyro_bridge.draws.plots import scalar_draws, site_of
from numpyro_bridge.target import Target


def site_order(target: Target, bridge: Any) -> list[str]:
    """Names of the latent sites in the order of the model, then of the deterministic sites."""
    names = [str(name) for name in bridge["posterior"].data_vars]
    latent = [name for name in target.sites if name in names]
    return [*latent, *(name for name in names if name not in latent)]


def table_of_parameters(bridge: Any, nuts: Any, sites: list[str]) -> Any:
    """A row for each parameter that varies and that both samplers have."""
    import pandas

    sides = [_summary(bridge), _summary(nuts)]
    labels = [label for label in sides[0] if label in sides[1]]
    labels.sort(key=lambda label: sites.index(site_of(label)))
    rows = {}
    for label in labels:
        ours, theirs = (side[label] for side in sides)
        if ours["sd"] == 0 and theirs["sd"] == 0:
            continue  # it is constant, like the diagonal of a correlation matrix
        rows[label] = {
            "bridge_mean": ours["mean"],
            "bridge_sd": ours["sd"],
            "nuts_mean": theirs["mean"],
            "nuts_sd": theirs["sd"],
            "difference": _ratio(ours["mean"] - theirs["mean"], theirs["sd"]),
            "z": _ratio(ours["mean"] - theirs["mean"], np.hypot(ours["mcse"], theirs["mcse"])),
            "wasserstein": _ratio(_wasserstein(ours["draws"], theirs["draws"]), theirs["sd"]),
            "bridge_r_hat": ours["r_hat"],
            "nuts_r_hat": theirs["r_hat"],
            "bridge_ess": ours["ess"],
            "nuts_ess": theirs["ess"],
        }
    return pandas.DataFrame.from_dict(rows, orient="index")


def _summary(inference_data: Any) -> dict[str, dict[str, Any]]:
    """Moments of each parameter, and its diagnostics as ArviZ defines them."""
    import arviz

    with np.errstate(all="ignore"):  # a parameter that never moves has no diagnostics
        diagnostics = {
            "mcse": arviz.mcse(inference_data, method="mean"),
            "ess": arviz.ess(inference_data, method="bulk"),
            "r_hat": arviz.rhat(inference_data),
        }
    by_label: dict[str, dict[str, Any]] = {
        label: {"draws": draws, "mean": float(np.mean(draws)), "sd": float(np.std(draws, ddof=1))}
        for label, draws in scalar_draws(inference_data).items()
    }
    sites: dict[str, list[str]] = {}
    for label in by_label:
        sites.setdefault(site_of(label), []).append(label)
    for name, dataset in diagnostics.items():
        for site, labels in sites.items():
            for label, value in zip(labels, np.ravel(dataset[site].values), strict=True):
                by_label[label][name] = float(value)
    return by_label


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else np.nan


def _wasserstein(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The area between the two distribution functions."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(ours.ravel(), theirs.ravel()))


def table_of_costs(bridge: Costs, nuts: Costs) -> Any:
    """A column for each sampler and a row for each cost; NaN where a cost is not known."""
    import pandas

    columns = {
        side: {row.name: np.nan if row.value is None else row.value for row in costs.rows()}
        for side, costs in (("bridge", bridge), ("nuts", nuts))
    }
    return pandas.DataFrame(columns)
