"""A NumPyro model as samplers want it that tell the prior from the likelihood."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer import Predictive
from numpyro.infer.util import compute_log_probs, initialize_model, unconstrain_fn


class SplitModel(NamedTuple):
    """Prior and likelihood of unconstrained positions, shape `(dim,)`."""

    dim: int
    log_prior: Callable[[Any], Any]
    """With the log Jacobian determinant of the constraints."""
    log_likelihood: Callable[[Any], Any]
    draw_prior: Callable[[jax.Array, int], jax.Array]
    """Positions of shape `(num, dim)`."""
    sites: Callable[[Any], dict[str, np.ndarray]]
    """From positions to the values of the sites, each with a leading axis of draws."""


def split(model: Callable[..., Any], kwargs: dict[str, Any]) -> SplitModel:
    """Tell the prior of a model from its likelihood.

    Args:
        model: The model; every latent site has a proper prior.
        kwargs: Its arguments, the data among them.
    """
    info = initialize_model(
        jax.random.key(0), model, model_kwargs=kwargs, validate_grad=False, dynamic_args=False
    )
    flat, unravel = ravel_pytree(info.param_info.z)
    names = list(info.param_info.z)

    def constrained(position):
        return info.postprocess_fn(unravel(position))

    def log_likelihood(position):
        latent = {name: constrained(position)[name] for name in names}
        by_site, trace = compute_log_probs(model, (), kwargs, latent)
        observed = [by_site[name] for name in by_site if trace[name]["is_observed"]]
        return jnp.sum(jnp.stack(observed))

    def log_prior(position):
        return -info.potential_fn(unravel(position)) - log_likelihood(position)

    def draw_prior(key, num: int):
        draws = Predictive(model, num_samples=num, return_sites=names)(key, **kwargs)

        def to_position(values):
            return ravel_pytree(unconstrain_fn(model, (), kwargs, values))[0]

        return jax.vmap(to_position)({name: draws[name] for name in names})

    def sites(positions):
        values = jax.jit(jax.vmap(constrained))(jnp.asarray(positions))
        return jax.tree.map(np.asarray, values)

    return SplitModel(len(flat), log_prior, log_likelihood, draw_prior, sites)
