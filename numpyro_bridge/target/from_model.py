"""Make a target of a NumPyro model and its data, or refuse it with what to write instead."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.checks import check_key
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target.arguments import holds_tracers, take_out_arrays
from numpyro_bridge.target.improper import refuse_improper
from numpyro_bridge.target.indices import indices_outside
from numpyro_bridge.target.layout import read_layout
from numpyro_bridge.target.model import ModelTarget
from numpyro_bridge.target.no_start import no_starting_point
from numpyro_bridge.target.point import REPLACED_LOG_DENSITY
from numpyro_bridge.target.refusals import (
    NUMBER_NEEDED_ERRORS,
    ModelRefusedError,
    check_arguments,
    described,
    not_numbers,
    number_needed,
    unrepeatable,
)
from numpyro_bridge.target.remarks import OddData
from numpyro_bridge.target.rounding import rounded_arguments, rounded_readings
from numpyro_bridge.target.starting_points import known_to_fail
from numpyro_bridge.target.unusable import unusable_arguments

NUM_STARTS = 8
"""Starting points searched for, to see that a model and its data go together."""


def target_from_model(
    rng_key: RNGKey, model: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> ModelTarget:
    """Turn a NumPyro model and its data into a target.

    >>> target = nb.target_from_model(key, model, x, y=y)
    >>> target.dim
    2

    Any model that NUTS accepts is accepted: constrained and value-dependent supports, plates,
    factors, masks, scans, conditioned sites, improper priors, and discrete latent sites of finite
    support (summed out; needs the package funsor).

    Args:
        rng_key: a JAX key, for the search of a finite starting point, which shows that the model
            and its data go together.
        model: a function of NumPyro statements.
        *args: the model's arguments. Arrays become leaves of the target; numbers, strings and other
            objects become constants of compiled code.
        **kwargs: the model's keyword arguments.

    Returns:
        The posterior density on unconstrained vectors.

    Raises:
        ValueError: if the model has no such density, or no finite point can be found; the message
            says which site is the cause and what to write instead.
        ImportError: if discrete sites have to be summed out and funsor is not installed.
    """
    check_key(rng_key)
    check_arguments(model, args, kwargs)
    try:
        target = _read_model(model, args, kwargs)
    except Exception as error:
        refused = isinstance(error, ModelRefusedError)
        may_be_data = not refused or isinstance(error.__cause__, NUMBER_NEEDED_ERRORS)
        instead = unusable_arguments(model, args, kwargs, error) if may_be_data else ()
        if instead:
            raise not_numbers(instead, error) from error
        if refused:
            raise
        error.add_note(f"The model raised it when run on ({described(args, kwargs)}).")
        raise
    rounded = rounded_arguments(model, args, kwargs)
    outside = () if holds_tracers(target) else indices_outside(target.log_density, target.dim)
    positions, finite = target.starting_points(rng_key, NUM_STARTS)
    if known_to_fail(finite):
        densities = jax.vmap(target.log_density)(positions)
        tried = [target.by_site(position) for position in positions[:3]]
        finite_density = bool(jnp.any(densities != REPLACED_LOG_DENSITY))
        call = target.model, target.model_args, target.model_kwargs
        raise no_starting_point(*call, tried, finite_density, OddData(rounded, outside))
    if target.improper_sites and not holds_tracers(positions):
        refuse_improper(target, positions[int(jnp.argmax(finite))])
    if not target.reads_as_before():
        raise unrepeatable()
    read = rounded_readings(model, target.log_density, target.dim)
    return replace(target, odd_data=OddData((*rounded, *read), outside))


def _read_model(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ModelTarget:
    """Hold the data as arguments of compiled code or, if the model needs numbers, as constants."""
    try:
        return _traced_target(model, args, kwargs, keep_constant=False)
    except (ModelRefusedError, ImportError):
        raise
    except Exception:
        # A model that needs numbers can fail in any way. An error of another cause appears again
        # below, free of tracers.
        pass
    try:
        return _traced_target(model, args, kwargs, keep_constant=True)
    except NUMBER_NEEDED_ERRORS as error:
        raise number_needed(error) from error


def _traced_target(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], keep_constant: bool
) -> ModelTarget:
    arrays, skeleton = take_out_arrays((model, args, kwargs), keep_constant)
    layouts = []

    def read(arrays):
        layouts.append(read_layout(*skeleton.filled_with(arrays)))

    jax.eval_shape(read, arrays)  # no arithmetic is done, and the layout holds no arrays
    (layout,) = layouts
    dim = sum(int(np.prod(shape)) for _, shape in layout.shapes)
    target = ModelTarget(dim, arrays, skeleton, layout, keep_constant)
    position = jax.ShapeDtypeStruct((dim,), jnp.result_type(float))
    target = target.read_anew()
    eqx.filter_eval_shape(lambda target, position: target.at(position), target, position)
    return target
