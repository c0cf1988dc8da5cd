"""Predictions, pointwise likelihoods and priors of a model, given draws of its latent sites."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array
from numpyro import handlers
from numpyro.infer import Predictive, log_likelihood
from numpyro.infer.util import compute_log_probs

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target import ModelTarget, Target
from numpyro_bridge.target.alone import alone
from numpyro_bridge.target.refusals import not_numbers
from numpyro_bridge.target.sites import Repeatable
from numpyro_bridge.target.unusable import unusable_arguments


def model_of(target: Target, what: str, instead: str = "") -> ModelTarget:
    """The same target, if it is that of a NumPyro model.

    Args:
        target: Any target.
        what: What needs a model, for the message.
        instead: What to write instead, if there is something.

    Raises:
        ValueError: if the target is not that of a model.
    """
    if isinstance(target, ModelTarget):
        return target
    raise ValueError(
        f"{what} needs a NumPyro model, and this posterior is that of a plain log density, which "
        f"says nothing about data{instead and f'; {instead}'}"
    )


@eqx.filter_jit
@alone
def pointwise_log_likelihood(
    target: ModelTarget, latents: dict[str, Array], batch_ndims: int = 2
) -> dict[str, Array]:
    """Log density of every observation at every draw, in nats, by observed site.

    Args:
        target: the target of a model without discrete latent sites.
        latents: constrained values of the latent sites.
        batch_ndims: number of leading axes that number the draws.

    Raises:
        ValueError: if the model has discrete latent sites.
    """
    if target.sums_out:
        raise ValueError(
            "in a model with discrete latent sites the observations have no likelihoods of their "
            "own: the sum over these sites joins them. Write the sum into the model "
            "(dist.MixtureSameFamily)"
        )
    values = log_likelihood(
        Repeatable(target.model),
        latents,
        *target.model_args,
        batch_ndims=batch_ndims,
        parallel=_fit_in_memory(target, latents, batch_ndims),
        **target.model_kwargs,
    )
    # Reparameterised sites leave behind factors of the prior that look like observations.
    return {
        name: value
        for name, value in values.items()
        if not (name.startswith("_") and name.endswith("_log_det"))
    }


def _fit_in_memory(target: ModelTarget, latents: dict[str, Array], batch_ndims: int) -> bool:
    """Whether the model can be run at all draws at once; otherwise it is run at one after another.

    Args:
        target: The target of the model.
        latents: Values of its latent sites.
        batch_ndims: Number of leading axes that number the draws.
    """
    num = math.prod(next(iter(latents.values())).shape[:batch_ndims]) if latents else 1
    return num <= (target.reading.most_at_once or num)


@eqx.filter_jit
@alone
def log_prior_of_sites(target: ModelTarget, latents: dict[str, Array]) -> dict[str, Array]:
    """Log density of each latent site at every draw, in nats, without log-determinants.

    Args:
        target: the target of a model without discrete latent sites.
        latents: constrained values of the latent sites, shape (chain, draw, ...).

    Returns:
        By site, one number for each of its events, shape (chain, draw, ...): as in the log joint
        density, with the scales of `handlers.scale`, and zero where a site is masked or flat.
    """

    def at_one_draw(values: dict[str, Array]) -> dict[str, Array]:
        model, args, kwargs = Repeatable(target.model), target.model_args, target.model_kwargs
        terms, _ = compute_log_probs(model, args, kwargs, values, sum_log_prob=False)
        return {name: jnp.asarray(terms[name]) for name in target.sites}

    return jax.vmap(jax.vmap(at_one_draw))(latents)


@eqx.filter_jit
def predict(
    rng_key: RNGKey, target: ModelTarget, latents: dict[str, Array], observed: list[str]
) -> dict[str, Array]:
    """Draw new values of the observed sites given the latent ones, all (chain, draw) at once."""
    if not observed:
        return {}
    model = handlers.uncondition(target.model)
    try:
        args, kwargs = target.model_args, target.model_kwargs
        parallel = _fit_in_memory(target, latents, 2)
        return run_model(rng_key, model, latents, observed, args, kwargs, parallel, batch_ndims=2)
    except NotImplementedError:
        return {}  # an observed distribution has a density but no sampler


@alone
def refuse_given(
    model: Any,
    latents: dict[str, Array],
    asked: Iterable[str],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Raise a ValueError if the arguments hold data for a site that is to be predicted.

    The data would be returned as they are, and look like a perfect prediction.

    Args:
        model: The model.
        latents: Values of its latent sites, shape (num_draws, ...).
        asked: Names of the observed sites to predict.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    first = {name: value[0] for name, value in latents.items()}
    placed = handlers.seed(handlers.substitute(model, first), 0)
    trace = handlers.trace(placed).get_trace(*args, **kwargs)
    given = [name for name in asked if name in trace and trace[name]["is_observed"]]
    if given:
        raise ValueError(
            f"the arguments hold data for {', '.join(given)}, which would be returned as they are: "
            "pass None for them to predict; without any arguments, the data that were seen are "
            "replicated"
        )


def run_on_given(
    rng_key: RNGKey,
    target: ModelTarget,
    model: Any,
    latents: dict[str, Array],
    asked: Iterable[str],
    return_sites: Sequence[str] | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Array]:
    """`run_model` on arguments that a user gave; `refuse_given` says what else is refused.

    Raises:
        ValueError: if an argument is of a kind that no model can compute with, such as a list.
    """
    try:
        refuse_given(model, latents, asked, args, kwargs)
        parallel = _fit_in_memory(target, latents, 1)
        return run_model(rng_key, model, latents, return_sites, args, kwargs, parallel)
    except Exception as error:
        instead = unusable_arguments(model, args, kwargs, error)
        if instead:
            raise not_numbers(instead, error) from error
        raise


@alone
def run_model(
    rng_key: RNGKey,
    model: Any,
    latents: dict[str, Array],
    return_sites: Sequence[str] | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    parallel: bool = True,
    batch_ndims: int = 1,
) -> dict[str, Array]:
    """Run a model on any arguments, once for each draw, all in one batch or in turn."""
    predictive = Predictive(
        model,
        posterior_samples=latents,
        return_sites=return_sites,
        parallel=parallel,
        batch_ndims=batch_ndims,
    )
    return predictive(rng_key, *args, **kwargs)
