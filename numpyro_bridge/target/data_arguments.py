"""Which arguments of a model are its data, and the model's call with other data in their place."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.primitives import Messenger

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target.simulation import Data
from numpyro_bridge.target.sites import Repeatable, is_data, is_factor


class Call(NamedTuple):
    """A call of a model, and the observed site that each of its data arguments goes to."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    data_sites: dict[str, str]
    """Name of the argument to name of the site."""

    def with_data(self, data: Data) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the model, with these values of the observed sites as data."""
        given = {argument: data[site] for argument, site in self.data_sites.items()}
        return _replaced(self.model, self.args, self.kwargs, given)

    def with_any_data(self, rng_key: RNGKey) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the model, with data where there were none: a draw of the model's.

        Raises:
            ValueError: if a site of `data_sites` is not one of the model.
        """
        values = _arguments(self.model, self.args, self.kwargs)
        absent = {name: site for name, site in self.data_sites.items() if values[name] is None}
        if not absent:
            return self.args, self.kwargs
        trace = _trace(rng_key, self.model, self.args, self.kwargs)
        unknown = [site for site in absent.values() if site not in trace]
        if unknown:
            raise ValueError(
                f"data_sites names the sites {unknown}, and without data the model has {[*trace]}"
            )
        drawn = {name: jnp.asarray(trace[site]["value"]) for name, site in absent.items()}
        return _replaced(self.model, self.args, self.kwargs, drawn)


def call_without_data(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    data_sites: Mapping[str, str] | None = None,
) -> Call:
    """Find out which arguments of a model are data, by trying.

    The data are those arguments that are None, given or by default, for which a value makes one
    more site of the model observed. Which site that is, is found with values of every site in turn.

    Args:
        model: A NumPyro model.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        data_sites: The observed site for each argument that is data, by their names, where they
            cannot be found. These arguments may have values; only the shapes matter.

    Raises:
        ValueError: if no argument is data, or one of `data_sites` is not an argument.
    """
    values = _arguments(model, args, kwargs)
    if data_sites is not None:
        _check_names(model, values, data_sites)
        return Call(model, args, kwargs, dict(data_sites))
    absent = [name for name, value in values.items() if value is None]
    found = {}
    if absent:
        try:
            sites = _sites(model, args, kwargs)
        except Exception as error:
            error.add_note(
                f"The model was run with {', '.join(f'{name}=None' for name in absent)}, to "
                "simulate data. If it cannot do without data, pass any of the right shape, and "
                "data_sites={'y': 'obs'} with the names of the argument and of its site."
            )
            raise
        found = dict(_fed(model, args, kwargs, absent, sites))
    if not found:
        raise ValueError(
            f"none of the arguments {[*values]} of the model is known to be data: pass None for "
            "those that are, or leave them out, so that they are simulated (obs=None); or name "
            "them with their sites, as in data_sites={'y': 'obs'}"
        )
    return Call(model, args, kwargs, found)


def _check_names(model, values: dict[str, Any], data_sites: Mapping[str, str]) -> None:
    unknown = [name for name in data_sites if name not in values]
    if unknown or not data_sites:
        raise ValueError(
            "data_sites should name the observed site of each argument that is data, as in "
            f"{{'y': 'obs'}}; the arguments of the model are {[*values]}, got {dict(data_sites)}"
        )


def _fed(
    model, args: tuple[Any, ...], kwargs: dict[str, Any], absent: list[str], sites: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """For each argument that is data, its name and that of the site that it makes observed."""
    before = {name for name, site in sites.items() if site.is_observed}
    for argument in absent:
        # A site of the same name is the likeliest one.
        for name in sorted({*sites} - before, key=lambda name: name != argument):
            given = _replaced(model, args, kwargs, {argument: sites[name].value})
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # shapes that do not fit are expected
                    after = _sites(model, *given)
            except Exception:
                continue  # values of another site, with which the model cannot run
            if {site for site, seen in after.items() if seen.is_observed} - before == {name}:
                yield argument, name
                break


class _Site(NamedTuple):
    is_observed: bool
    value: jax.ShapeDtypeStruct


def _sites(model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, _Site]:
    """The sample sites of a model, without any arithmetic."""
    found: dict[str, _Site] = {}

    def run(args, kwargs):
        trace = _trace(jax.random.key(0), model, args, kwargs)
        for name, site in trace.items():
            if site["type"] == "sample" and not is_factor(site):
                value = jnp.asarray(site["value"])
                found[name] = _Site(is_data(site), jax.ShapeDtypeStruct(value.shape, value.dtype))

    # Only shapes that stand for data are abstract: covariates may set the size of a plate.
    abstract, rest = _split((args, kwargs))
    jax.eval_shape(lambda abstract: run(*_joined(abstract, rest)), abstract)
    return found


def _split(tree: Any) -> tuple[list[Any], Any]:
    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_shape)
    return [leaf for leaf in leaves if _is_shape(leaf)], (leaves, structure)


def _joined(abstract: list[Any], rest: Any) -> Any:
    leaves, structure = rest
    values = iter(abstract)
    return jax.tree.unflatten(structure, [next(values) if _is_shape(x) else x for x in leaves])


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _trace(
    rng_key: RNGKey, model, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    seeded = handlers.seed(Repeatable(model), rng_key)
    return handlers.trace(seeded).get_trace(*args, **kwargs)


def _signature(model: Callable[..., Any]) -> inspect.Signature:
    while isinstance(model, Messenger) and model.fn is not None:
        model = model.fn  # a handler's own signature is (*args, **kwargs)
    return inspect.signature(model)


def _arguments(model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a model by name, those that are left out by their defaults."""
    signature = _signature(model)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    named = dict(bound.arguments)
    for name, kind in kinds.items():
        if kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(name)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            named.pop(name)
    return named


def _replaced(
    model, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with these arguments; what was given by position stays there."""
    places = list(_signature(model).parameters)[: len(args)]
    by_position = [values.get(name, arg) for name, arg in zip(places, args, strict=False)] + list(
        args[len(places) :]
    )
    by_name = {name: value for name, value in values.items() if name not in places}
    return tuple(by_position), {**kwargs, **by_name}
