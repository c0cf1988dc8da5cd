"""What one run of a model says about its sites: shapes, names of axes, and what can be drawn."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform
from numpyro.util import _validate_model

from numpyro_bridge.target.alone import alone
from numpyro_bridge.target.refusals import (
    RefuseSites,
    check_asked,
    check_param,
    check_trace,
    is_centring,
)
from numpyro_bridge.target.sites import (
    Repeatable,
    enumerated,
    has_no_integral,
    is_data,
    is_discrete,
    is_factor,
    unconstrained_value,
)


class Crossed(NamedTuple):
    """An observed site whose every value is scored under several distributions.

    Values of shape (3, 1) under distributions of shape (3,) make nine log densities, not three; one
    value under distributions of shape (3,) makes three, not one.
    """

    name: str
    values: tuple[int, ...]
    distributions: tuple[int, ...]


class Layout(NamedTuple):
    """What one run of a model says about its sites; hashable, and without its data."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    """Unconstrained shapes of the continuous latent sites, sorted by name."""
    dims: tuple[tuple[str, tuple[str, ...]], ...]
    """Names of the leading axes of all sites that have values."""
    improper: tuple[str, ...]
    """Latent sites whose prior has no finite integral."""
    prior_can_be_drawn: bool
    """Whether running the model draws from its prior: False where some of it is improper, masked,
    scaled or discrete."""
    sums_out: bool
    """Whether there are discrete latent sites, over whose values the density is a sum."""
    num_plate_dims: int
    """How many axes the plates take; sums over discrete sites use axes to the left of them."""
    hidden: frozenset[str]
    """Deterministic sites that depend on discrete latent ones."""
    held: tuple[str, ...] = ()
    """Parameters that stay at their initial value: how far `LocScaleReparam(None)` centres."""
    has_factors: bool = False
    """Whether there are `numpyro.factor` statements, which may hold data of their own."""
    observes: bool = True
    """Whether there are observed sites."""
    empty: tuple[str, ...] = ()
    """Observed sites without a single value."""
    crossed: tuple[Crossed, ...] = ()
    """Observed sites whose every value is scored under several distributions."""


@alone
def read_layout(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Layout:
    """Run a model once, at an arbitrary position, and refuse it or note what its sites are.

    The run may be abstract (`jax.eval_shape`): no number is looked at.
    """
    checked = RefuseSites(handlers.seed(Repeatable(model), 0))
    asked: set[str] = set()
    started = handlers.substitute(checked, substitute_fn=partial(_start, asked))
    trace = handlers.trace(started).get_trace(*args, **kwargs)
    held = {name for name in checked.params if is_centring(name, trace)}
    for name in sorted(checked.params - held):
        check_param(name, trace[name]["value"], started, args, kwargs)
    check_trace(trace)
    check_asked(trace, asked)
    samples = {name: site for name, site in trace.items() if site["type"] == "sample"}
    latent = {name: samples[name] for name in sorted(samples) if not samples[name]["is_observed"]}
    discrete = {name for name, site in latent.items() if is_discrete(site["fn"])}
    continuous = {name: site for name, site in latent.items() if name not in discrete}
    frames = [frame for site in samples.values() for frame in site["cond_indep_stack"]]
    num_plate_dims = max((-frame.dim for frame in frames), default=0)
    _validate_model(trace, plate_warning="error" if discrete else "loose")
    hidden = _hidden_sites(model, args, kwargs, trace, num_plate_dims) if discrete else frozenset()
    improper = tuple(name for name, site in continuous.items() if _is_improper(site["fn"]))
    is_scaled = any(site["scale"] is not None for site in latent.values())
    shapes = {name: jnp.shape(unconstrained_value(site)) for name, site in continuous.items()}
    with_values = {n: s for n, s in trace.items() if _has_value(s) and n not in discrete | hidden}
    return Layout(
        shapes=tuple(shapes.items()),
        dims=tuple((name, _dims(site)) for name, site in with_values.items()),
        improper=improper,
        prior_can_be_drawn=not (improper or discrete or is_scaled),
        sums_out=bool(discrete),
        num_plate_dims=num_plate_dims,
        hidden=hidden,
        held=tuple(sorted(held)),
        has_factors=any(is_factor(site) for site in samples.values()),
        observes=any(is_data(site) for site in samples.values()),
        empty=tuple(n for n, s in samples.items() if is_data(s) and jnp.size(s["value"]) == 0),
        crossed=tuple(_crossed_sites(samples)),
    )


def _crossed_sites(samples: dict[str, dict[str, Any]]) -> Iterator[Crossed]:
    for name, site in samples.items():
        if not is_data(site):
            continue
        values = jnp.shape(site["value"])[: _num_batch_dims(site)]
        distributions = site["fn"].batch_shape
        paired = math.prod(np.broadcast_shapes(values, distributions))
        if paired > math.prod(values):
            yield Crossed(name, values, distributions)


def _start(asked: set[str], site: dict[str, Any]) -> Any:
    """Give a site a starting value, and note that it asked for one."""
    asked.add(site["name"])
    return init_to_uniform(site)


def _has_value(site: dict[str, Any]) -> bool:
    return site["type"] == "deterministic" or site["type"] == "sample" and not is_factor(site)


def _is_improper(fn: dist.Distribution) -> bool:
    is_masked = isinstance(fn, dist.MaskedDistribution) and fn._mask is not True
    return is_masked or has_no_integral(fn)


def _hidden_sites(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    trace: dict[str, dict[str, Any]],
    num_plate_dims: int,
) -> frozenset[str]:
    """Find the deterministic sites that depend on discrete ones, which have no single value.

    Their shape changes when discrete sites are enumerated. A deterministic site in a scan over
    discrete ones is lost on the way out, and counts as dependent too.
    """
    spread = enumerated(handlers.seed(Repeatable(model), 0), num_plate_dims)
    spread = handlers.substitute(spread, substitute_fn=init_to_uniform)
    from numpyro.contrib.funsor.infer_util import plate_to_enum_plate

    with plate_to_enum_plate():
        spread_trace = handlers.trace(spread).get_trace(*args, **kwargs)

    def is_same(name: str) -> bool:
        site = spread_trace.get(name)
        return site is not None and jnp.shape(site["value"]) == jnp.shape(trace[name]["value"])

    names = [name for name, site in trace.items() if site["type"] == "deterministic"]
    return frozenset(name for name in names if not is_same(name))


def _dims(site: dict[str, Any]) -> tuple[str, ...]:
    """Name the axes of a site by its plates, up to the last axis that has a name."""
    shape, num_batch = jnp.shape(site["value"]), _num_batch_dims(site)
    names = {num_batch + frame.dim: frame.name for frame in _fitting_frames(site, num_batch)}
    event_names = site.get("infer", {}).get("event_dims", ())
    names |= {num_batch + axis: name for axis, name in enumerate(event_names)}
    last = min(max(names, default=-1), len(shape) - 1)
    return tuple(names.get(axis, f"{site['name']}_dim_{axis}") for axis in range(last + 1))


def _fitting_frames(site: dict[str, Any], num_batch: int) -> list[Any]:
    """The plates of a site that are an axis of its value."""
    shape = jnp.shape(site["value"])
    frames = [
        frame for frame in site["cond_indep_stack"] if 0 <= num_batch + frame.dim < len(shape)
    ]
    return [frame for frame in frames if shape[num_batch + frame.dim] == frame.size]


def _num_batch_dims(site: dict[str, Any]) -> int:
    """The number of axes before the event: plates count from the last of them."""
    ndim, frames = jnp.ndim(site["value"]), site["cond_indep_stack"]
    if site["type"] == "sample":
        return ndim - site["fn"].event_dim
    # A deterministic value does not say where its event starts. If all plates fit in front, after
    # them; if some are missing, because the value does not depend on them, there is no event.
    depth = max((-frame.dim for frame in frames), default=0)
    return depth if len(_fitting_frames(site, depth)) == len(frames) else ndim
