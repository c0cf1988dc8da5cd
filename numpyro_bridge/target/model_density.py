"""The log density of a model at given latent values: the whole, or prior and likelihood apart."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.infer.util import _unconstrain_reparam, compute_log_probs, potential_energy

from numpyro_bridge.target.layout import Layout
from numpyro_bridge.target.reference import Reference, Terms, total
from numpyro_bridge.target.refusals import complex_log_density
from numpyro_bridge.target.sites import Repeatable, enumerated

Values = Mapping[str, Array]
"""Unconstrained values of the continuous latent sites, by name."""

Log = Float[Array, ""]


def placed(model: Callable[..., Any], values: Values) -> Callable[..., Any]:
    """Put the latent sites of the model at these values, their log-determinants as factors."""
    return handlers.substitute(model, substitute_fn=partial(_unconstrain_reparam, values))


def log_joint(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    layout: Layout,
    reference: Reference | None = None,
) -> Log:
    """Evaluate minus the potential energy that NUTS sees, with discrete sites summed out.

    With a reference it is what this has more than there.
    """
    if reference is not None:
        return reference.difference(terms(model, args, kwargs, values, layout))
    model = Repeatable(model)
    if layout.sums_out:
        model = enumerated(model, layout.num_plate_dims)
    energy = jnp.asarray(potential_energy(model, args, kwargs, values, enum=layout.sums_out))
    if jnp.iscomplexobj(energy):
        raise complex_log_density()
    return -energy


def log_prior(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    layout: Layout,
) -> Log:
    """Sum the log densities of the latent sites, and all log-determinants."""
    prior, _ = _split(model, args, kwargs, values, layout)
    return _sum(prior)


def log_likelihood(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    layout: Layout,
    reference: Reference | None = None,
) -> Log:
    """Sum the log densities of the observed sites, and the factors.

    With a reference, a constant is left out, so that this and the prior still sum to `log_joint`.
    """
    prior, likelihood = _split(model, args, kwargs, values, layout)
    if reference is None:
        return _sum(likelihood)
    return reference.difference(likelihood) - reference.sum_of(list(prior))


def terms(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    layout: Layout,
) -> Terms:
    """Evaluate the log density in parts: one number for each row of each site.

    Where discrete sites are summed out there are no such parts, but the whole by an empty name.
    """
    if layout.sums_out:
        return {"": log_joint(model, args, kwargs, values, layout)}
    prior, likelihood = _split(model, args, kwargs, values, layout)
    return prior | likelihood


def _sum(terms: Terms) -> Log:
    return total(list(terms.values()))


def _split(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    layout: Layout,
) -> tuple[Terms, Terms]:
    """Evaluate the log densities of all rows of the sites: of the prior, and of the others."""
    if layout.sums_out:
        raise ValueError(
            "The density of a model with discrete latent sites is a sum over their values, and "
            "does not split into prior and likelihood. Use `log_density`, or write the sum into "
            "the model (numpyro.factor, dist.MixtureSameFamily)."
        )
    model = placed(Repeatable(model), values)
    terms, trace = compute_log_probs(model, args, kwargs, {}, sum_log_prob=False)
    # A handler such as `scope` may put a prefix before the name of a log-determinant.
    log_dets = tuple(f"_{name}_log_det" for name in values)
    in_prior = {n for n in terms if not trace[n]["is_observed"] or n.endswith(log_dets)}
    prior = {name: jnp.asarray(terms[name]) for name in terms if name in in_prior}
    return prior, {name: jnp.asarray(terms[name]) for name in terms if name not in in_prior}
