"""Parameters: single elements of sites, named by the coordinates of their dimensions."""

from collections.abc import Iterable
from itertools import product, zip_longest
from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_count, check_names, check_text, described


def scalar_draws(inference_data: Any) -> dict[str, np.ndarray]:
    """The posterior as one array of shape (chain, draw) for each parameter.

    >>> list(nb.plots.scalar_draws(idata))
    ['slope', 'w[0]', 'w[1]']

    Args:
        inference_data: an ArviZ `InferenceData`, or a `DataTree`.

    Returns:
        Draws by label, such as `"tau"` or `"theta[Choate]"`.
    """
    if not (
        hasattr(inference_data, "posterior") and hasattr(inference_data.posterior, "data_vars")
    ):
        raise ValueError(
            "inference_data must be an ArviZ object with a posterior, such as "
            f"nb.to_inference_data(draws), got {described(inference_data)}"
        )
    scalars = {}
    for name, variable in inference_data["posterior"].data_vars.items():
        values = variable.transpose("chain", "draw", ...)
        dims = values.dims[2:]
        numbers = np.asarray(values.values)
        sizes = zip(dims, numbers.shape[2:], strict=True)
        labels = [_coordinates(values, dim, size) for dim, size in sizes]
        for index in product(*(range(len(names)) for names in labels)):
            inside = ",".join(names[i] for names, i in zip(labels, index, strict=True))
            scalars[f"{name}[{inside}]" if index else str(name)] = numbers[(..., *index)]
    return scalars


def _coordinates(values: Any, dim: str, size: int) -> list[str]:
    return [str(label) for label in (values[dim].values if dim in values.coords else range(size))]


def site_of(label: str) -> str:
    """The site that a parameter belongs to: `"theta"` for `"theta[3]"`.

    >>> nb.plots.site_of("theta[3]")
    'theta'
    """
    return check_text("label", label, "theta[3]").split("[", 1)[0]


def take_turns(labels: Iterable[str], maximum: int) -> list[str]:
    """Choose parameters of every site: the first of each site, then the second, and so on.

    >>> nb.plots.take_turns(["theta[0]", "theta[1]", "mu"], 2)
    ['theta[0]', 'mu']

    Args:
        labels: parameters, in the order to show them in.
        maximum: how many to keep.

    Returns:
        At most `maximum` of the labels, in the order in which they were given.
    """
    labels = check_names("labels", labels, '["mu", "theta[0]"]')
    maximum = check_count("maximum", maximum, 0)
    sites: dict[str, list[str]] = {}
    for label in labels:
        sites.setdefault(site_of(label), []).append(label)
    turns = (label for turn in zip_longest(*sites.values()) for label in turn if label is not None)
    kept = {label for label, _ in zip(turns, range(maximum), strict=False)}
    return [label for label in labels if label in kept]
