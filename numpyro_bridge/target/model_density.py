"""The log density of a model at given latent values: the whole, or prior and likelihood apart."""

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.infer.util import _unconstrain_reparam, compute_log_probs, potential_energy

from numpyro_bridge.target.layout import Layout
from numpyro_bridge.target.sites import Repeatable, enumerated

Values = Mapping[str, Array]
"""Unconstrained values of the continuous latent sites, by name."""

Log = Float[Array, ""]


def placed(model: Callable, values: Values) -> Callable:
    """Put the latent sites of the model at these values, their log-determinants as factors."""
    return handlers.substitute(model, substitute_fn=partial(_unconstrain_reparam, values))


def log_joint(model: Callable, args: tuple, kwargs: dict, values: Values, layout: Layout) -> Log:
    """Evaluate minus the potential energy that NUTS sees, with discrete sites summed out."""
    model = Repeatable(model)
    if layout.sums_out:
        model = enumerated(model, layout.num_plate_dims)
    return -jnp.asarray(potential_energy(model, args, kwargs, values, enum=layout.sums_out))


def log_prior(model: Callable, args: tuple, kwargs: dict, values: Values, layout: Layout) -> Log:
    """Sum the log densities of the latent sites, and all log-determinants."""
    terms, in_prior = _terms(model, args, kwargs, values, layout)
    return jnp.asarray(sum((term for name, term in terms.items() if in_prior[name]), start=0.0))


def log_likelihood(
    model: Callable, args: tuple, kwargs: dict, values: Values, layout: Layout
) -> Log:
    """Sum the log densities of the observed sites, and the factors."""
    terms, in_prior = _terms(model, args, kwargs, values, layout)
    return jnp.asarray(sum((term for name, term in terms.items() if not in_prior[name]), start=0.0))


def _terms(
    model: Callable, args: tuple, kwargs: dict, values: Values, layout: Layout
) -> tuple[dict[str, Log], dict[str, bool]]:
    """Evaluate the log density of each site, and tell whether it belongs to the prior."""
    if layout.sums_out:
        raise ValueError(
            "The density of a model with discrete latent sites is a sum over their values, and "
            "does not split into prior and likelihood. Use `log_density`, or write the sum into "
            "the model (numpyro.factor, dist.MixtureSameFamily)."
        )
    terms, trace = compute_log_probs(placed(Repeatable(model), values), args, kwargs, {})
    # A handler such as `scope` may put a prefix before the name of a log-determinant.
    log_dets = tuple(f"_{name}_log_det" for name in values)
    in_prior = {n: not trace[n]["is_observed"] or n.endswith(log_dets) for n in terms}
    return terms, in_prior
