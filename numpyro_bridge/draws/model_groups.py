"""The groups of an ArviZ object that a model is needed for: likelihoods, predictions and data."""

import inspect
import math
import warnings as python_warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.primitives import Messenger

from numpyro_bridge._core.checks import check_flag, check_names
from numpyro_bridge._core.memory import in_words, memory_limit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.prediction import log_prior_of_sites, pointwise_log_likelihood, predict
from numpyro_bridge.target import ModelTarget

Groups = dict[str, dict[str, Any]]


class Wanted(NamedTuple):
    """The groups that are asked for, by the arguments of `to_inference_data`."""

    prior: bool
    predictive: bool
    log_likelihood: bool
    log_prior: bool
    exclude: Any
    """Names of sites that are left out of the posterior and the prior."""

    def checked(self, draws: Draws, stacklevel: int) -> "Wanted":
        """The same without the groups that cannot be given, of which a warning tells.

        Raises:
            ValueError: if one of them is no flag, or `exclude` names a site that is not there, or
                all of them.
        """
        flags = {
            name: check_flag(name, getattr(self, name))
            for name in ("prior", "predictive", "log_likelihood", "log_prior")
        }
        exclude = check_names("exclude", self.exclude, '["mean"]')
        unknown = [name for name in exclude if name not in draws.sites]
        if unknown or set(exclude) == set(draws.sites):
            raise ValueError(
                f"exclude should name some of the sites {[*draws.sites]}, not all, got {exclude}"
            )
        wanted = self._replace(**flags, exclude=tuple(exclude))
        if not isinstance(draws.target, ModelTarget):
            return wanted
        if draws.target.sums_out:
            wanted = wanted._without(("log_likelihood", "log_prior"), SUMMED_OUT, stacklevel + 1)
        size = _size_at_data(draws)
        if size > memory_limit():
            reason = f"each would take {in_words(size)}, which is more than the memory limit"
            instead = f"Take fewer draws, or allow more: nb.set_memory_limit({size:.2g})"
            wanted = wanted._without(
                ("log_likelihood", "predictive"), (reason, instead), stacklevel + 1
            )
        return wanted

    def _without(self, names: tuple[str, ...], why: tuple[str, str], stacklevel: int) -> "Wanted":
        missing = [name for name in names if getattr(self, name)]
        if not missing:
            return self
        reason, instead = why
        python_warnings.warn(
            f"left out: {' and '.join(missing)}, since {reason}. {instead}; or go on without them "
            f"and without this warning: {', '.join(f'{name}=False' for name in missing)}",
            stacklevel=stacklevel,
        )
        return self._replace(**dict.fromkeys(missing, False))


SUMMED_OUT = (
    "the discrete sites of the model are summed out, and a sum has no parts of single sites",
    "For arviz.loo write the sum into the model (dist.MixtureSameFamily)",
)
"""Why a model with discrete sites lacks groups, and what to write instead."""


def _size_at_data(draws: Draws) -> int:
    """The bytes of one number for each observation and each draw."""
    observed = draws.target.observed.values()
    itemsize = np.dtype(jnp.result_type(float)).itemsize
    return draws.num_samples * sum(math.prod(value.shape) for value in observed) * itemsize


def model_groups(
    rng_key: RNGKey,
    target: ModelTarget,
    latents: dict[str, Array],
    wanted: Wanted,
    kept: list[str],
) -> Groups:
    """The groups that need the model itself, without those that it cannot give.

    Args:
        rng_key: A JAX key.
        target: The target of the model.
        latents: Corrected draws of its latent sites, shape (chain, draw, ...).
        wanted: Which groups.
        kept: Names of the sites that the prior should have.
    """
    posterior_key, prior_key = jax.random.split(rng_key)
    observed = target.observed
    groups: Groups = {
        "observed_data": observed,
        "constant_data": dict(_constant_data(target, list(observed.values()))),
    }
    if wanted.log_likelihood:
        groups["log_likelihood"] = pointwise_log_likelihood(target, latents)
    if wanted.log_prior:
        groups["log_prior"] = log_prior_of_sites(target, latents)
    if wanted.predictive:
        groups["posterior_predictive"] = predict(posterior_key, target, latents, list(observed))
    if wanted.prior:
        num_draws = next(iter(latents.values())).shape[1]
        predicted = list(observed) if wanted.predictive else []
        groups |= _prior_groups(prior_key, target, num_draws, predicted, kept)
    return {name: group for name, group in groups.items() if group}


def _constant_data(target: ModelTarget, observed: list[Array]) -> Iterator[tuple[str, np.ndarray]]:
    """Numeric arguments of the model, by their names in its signature."""
    model = target.model
    while isinstance(model, Messenger) and model.fn is not None:
        model = model.fn  # a handler's own signature is (*args, **kwargs)
    signature = inspect.signature(model)
    arguments = signature.bind(*target.model_args, **target.model_kwargs).arguments
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
    for path, leaf in jax.tree.leaves_with_path(arguments):
        if not isinstance(leaf, (np.ndarray, jax.Array, np.number, int, float)):
            continue
        value = np.asarray(leaf)
        is_number = np.issubdtype(value.dtype, np.number) or value.dtype == bool
        if is_number and not any(_same_array(value, other) for other in observed):
            yield jax.tree_util.keystr(path, simple=True, separator="_"), value


def _same_array(value: np.ndarray, other: Array) -> bool:
    # The model may have rounded the observation to float32, so the argument is rounded as well.
    other_value = np.asarray(other)
    if value.shape != other_value.shape:
        return False
    equal_nan = np.issubdtype(other_value.dtype, np.inexact)
    return np.array_equal(value.astype(other_value.dtype), other_value, equal_nan=equal_nan)


def _prior_groups(
    rng_key: RNGKey, target: ModelTarget, num_draws: int, observed: list[str], kept: list[str]
) -> Groups:
    prior_key, predictive_key = jax.random.split(rng_key)
    positions = target.prior_positions(prior_key, num_draws)
    if positions is None:
        return {}
    prior = _constrain_one_chain(target, positions, (*target.sites, *kept))
    latents = {name: prior[name] for name in target.sites}
    predictions = predict(predictive_key, target, latents, observed)
    prior = {name: prior[name] for name in kept}
    return {"prior": prior, "prior_predictive": predictions}


@eqx.filter_jit
def _constrain_one_chain(
    target: ModelTarget, positions: Float[Array, "draw dim"], names: tuple[str, ...]
) -> dict[str, Array]:
    values = jax.vmap(target.constrain)(positions)
    return {name: values[name][None] for name in names}
