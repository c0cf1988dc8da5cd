"""The values of a model's sites at given latent values."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from numpyro import handlers
from numpyro.infer.util import constrain_fn

from numpyro_bridge.target.layout import Layout
from numpyro_bridge.target.model_density import Values, placed
from numpyro_bridge.target.sites import Repeatable, is_data


def constrained(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    layout: Layout,
) -> dict[str, Array]:
    """The values of latent and deterministic sites, without those that are summed out."""
    model = Repeatable(model)
    if layout.sums_out:
        model = handlers.seed(model, 0)
    sites = constrain_fn(model, args, kwargs, dict(values), return_deterministic=True)
    kept = {name: site for name, site in sites.items() if name not in layout.hidden}
    return jax.tree.map(jnp.asarray, kept)


def observed(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    layout: Layout,
) -> dict[str, Array]:
    """The values of the observed sites."""
    model = placed(handlers.seed(Repeatable(model), 0), values)
    trace = handlers.trace(model).get_trace(*args, **kwargs)
    return {name: jnp.asarray(site["value"]) for name, site in trace.items() if is_data(site)}
