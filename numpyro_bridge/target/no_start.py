"""Why no starting point of a model has a finite density: which sites and data are to blame."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.util import compute_log_probs

from numpyro_bridge.target.alone import alone
from numpyro_bridge.target.model_density import placed
from numpyro_bridge.target.refusals import ModelRefusedError
from numpyro_bridge.target.remarks import OddData, about_indices
from numpyro_bridge.target.sites import Repeatable, family_of, is_factor


def no_starting_point(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    positions: Iterable[dict[str, Any]],
    finite_density: bool,
    odd: OddData,
) -> ModelRefusedError:
    """Make the error for a model without a finite start, naming the sites that spoil every one.

    Args:
        model: the model.
        args: its positional arguments.
        kwargs: its keyword arguments.
        positions: a few positions that were tried, as unconstrained values by site name.
        finite_density: whether the density was finite somewhere, but never its gradient.
        odd: what JAX silently makes of some of the data.
    """
    runs = [non_finite_sites(model, args, kwargs, position) for position in positions]
    culprits = [text for name, text in runs[0].items() if all(name in run for run in runs)]
    if culprits:
        reason = "At every one of them: " + "; ".join(culprits) + "."
    elif finite_density:
        reason = (
            "The density is finite at some of them, but its gradient never is: look for sqrt, log, "
            "norm or a division at zero, and for jnp.where with a NaN in the branch not taken."
        )
    else:
        reason = "No single site is to blame: look at the scales of the priors."
    more = *_spoilt_arguments(model, args, kwargs), *about_indices(odd.outside)
    reason = " ".join([reason, *more])
    if odd.rounded:
        reason += (
            f" The numbers of {', '.join(odd.rounded)} need more than 32 bits, and become others: "
            "call numpyro.enable_x64() at the start."
        )
    return ModelRefusedError(
        "No starting point with a finite density and gradient among hundreds of random ones "
        "(unconstrained values uniform between -2 and 2, and draws of the prior where it has a "
        f"sampler). {reason}"
    )


def non_finite_sites(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    position: dict[str, Any],
) -> dict[str, str]:
    """Describe each site whose log probability is not finite at one position, by name."""
    sites = {}

    @jax.jit  # where NumPyro raises no errors of its own
    @alone
    def count(position):
        replayed = placed(handlers.seed(Repeatable(model), 0), position)
        log_probs, trace = compute_log_probs(replayed, args, kwargs, {})
        sites.update(
            {name: (_kind(trace[name]), family_of(trace[name]["fn"])) for name in log_probs}
        )
        return {
            name: (value, _count_nan(trace[name]), *_outside(trace[name]))
            for name, value in log_probs.items()
        }

    numbers = {name: [x.item() for x in values] for name, values in count(position).items()}
    return {
        name: _blame(name, *sites[name], *values)
        for name, values in numbers.items()
        if not math.isfinite(values[0])
    }


def _kind(site: dict[str, Any]) -> str:
    if is_factor(site):
        return "factor"
    return "observed site" if site["is_observed"] else "latent site"


def _count_nan(site: dict[str, Any]) -> jax.Array:
    return jnp.sum(jnp.isnan(jnp.asarray(site["value"])))


def _outside(site: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    """How many values are outside of the support, and one number of the first of these."""
    value = jnp.asarray(site["value"])
    if value.size == 0:  # a factor
        return jnp.zeros((), int), jnp.zeros(())
    outside = ~jnp.asarray(site["fn"].support(value))
    rows = jnp.broadcast_to(value, (*outside.shape, *value.shape[outside.ndim :]))
    first = jnp.argmax(outside.ravel())
    return jnp.sum(outside), jnp.reshape(rows, (outside.size, -1))[first, 0].astype(float)


def _blame(
    name: str,
    kind: str,
    family: str,
    log_prob: float,
    num_nan: int,
    num_outside: int,
    such_as: float,
) -> str:
    bounded = name.removeprefix("_").removesuffix("_log_det")
    if kind == "factor" and name == f"_{bounded}_log_det":
        return f"the support of latent site '{bounded}' is empty: are its bounds in order?"
    text = f"{kind} '{name}' has log probability {log_prob}"
    if kind != "observed site":
        return text
    if num_nan:
        return (
            f"{text} ({num_nan} of its values are NaN: drop them, or hide them with "
            "numpyro.handlers.mask(mask=~jnp.isnan(y)) around the site)"
        )
    if not num_outside:
        return text
    return f"{text} (data outside the support of {family}: {num_outside}, such as {such_as:g})"


def _spoilt_arguments(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[str]:
    """A sentence on each argument that holds NaN, by the name that the model has for it."""
    try:
        named = inspect.signature(model).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # some callables written in C have no signature
        named = {f"number {i}": value for i, value in enumerate(args)} | kwargs
    for name, value in named.items():
        is_array = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.inexact)
        num_nan = int(np.isnan(value).sum()) if is_array else 0
        if num_nan:
            yield f"The argument {name} holds {num_nan} NaN."
