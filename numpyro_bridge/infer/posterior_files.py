"""Files of posteriors, which `Posterior.save` writes and `nb.load` reads."""

import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from numpyro_bridge._core.descriptions import NotDescribable, describe_whole
from numpyro_bridge._core.precision import in_present_precision
from numpyro_bridge._core.storage import load_header, load_parts, save_parts
from numpyro_bridge.atlas.atlas import Atlas
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.atlas.seen_target import (
    Charts,
    SeenTarget,
    first_map,
    seen_through,
    view_of,
)
from numpyro_bridge.atlas.standardisation import MapFit, Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.target import ModelTarget, Target, target_from_model
from numpyro_bridge.target.fingerprint import difference, fingerprint, shapes
from numpyro_bridge.training.metrics import AbstractMetrics
from numpyro_bridge.training.report import RunReport

ProcessMaker = Callable[..., AbstractProcess[Any]]
"""A constructor of processes from `(rng_key, dim)`."""

MapMaker = Callable[[int], AbstractMap]
"""A constructor of maps from the dimension."""


class SavedPosterior(NamedTuple):
    """The fields of a `Posterior`, as a file holds them."""

    process: AbstractProcess[Any]
    target: SeenTarget
    standardisation: Standardisation
    metrics: AbstractMetrics | None
    report: RunReport
    atlas: Atlas | None
    doubts: tuple[str, ...]


def write_posterior(path: str | os.PathLike[str], posterior: SavedPosterior) -> None:
    """Write a posterior to one file, atomically."""
    process, target, standardisation, metrics, report, atlas, doubts = posterior
    fit = standardisation.fit
    view = view_of(target)
    charted = isinstance(view, Charts)
    parts = {
        "process": process,
        "coordinate_map": None if charted else view,
        "charts": view if charted else None,
        "metrics": metrics,
        "atlas": atlas,
        "doubts": doubts,
        "reference": None if target.base.reference is None else target.base.reference.position,
    }
    base = target.base
    if isinstance(base, ModelTarget) and _can_be_saved(base.model_args, base.model_kwargs):
        parts["data"] = (base.model_args, base.model_kwargs)
    header = {
        "kind": "posterior",
        "version": version("numpyro-bridge"),
        "jax_version": jax.__version__,
        "dim": target.dim,
        "sites": shapes(target.base.sites),
        "fit": None if fit is None else fit._asdict(),
        "fingerprint": fingerprint(_single(target)),
        "report": report.attributes(),
    }
    save_parts(path, header, parts)


def read_posterior(
    path: str | os.PathLike[str],
    model: Callable[..., Any] | Target,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    process: ProcessMaker | None,
    coordinate_map: MapMaker | None,
) -> SavedPosterior:
    """Read what `write_posterior` wrote, with the arguments and errors of `nb.load`."""
    header = load_header(path)
    if header.get("kind") != "posterior":
        raise ValueError(
            f"{os.fspath(path)!r} holds a {header.get('kind')}, not a posterior; a checkpoint is "
            "resumed by running a sampler with checkpoint=path, and a posterior of all data is "
            "read by nb.load_amortised(path, model)"
        )
    if not header["sites"] and not isinstance(model, Target):
        raise ValueError(
            f"{os.fspath(path)!r} holds the posterior of a log density and not of a model; call "
            "nb.load(path, nb.target_from_log_density(fn, dim)) with that log density"
        )
    dim = header["dim"]
    makers = {
        "process": None if process is None else partial(process, jax.random.key(0), dim),
        "coordinate_map": None if coordinate_map is None else partial(coordinate_map, dim),
    }
    parts = load_parts(path, makers)
    trained = ("process", "coordinate_map", "charts", "atlas")
    parts |= in_present_precision({name: parts[name] for name in trained})
    base = _same_target(path, model, args, kwargs, parts.get("data"))
    if parts["reference"] is not None:
        base = base.relative_to(in_present_precision(parts["reference"]))
    target = seen_through(base, parts["charts"] or parts["coordinate_map"])
    _check_same_model(path, header, target)
    fit = None if header["fit"] is None else MapFit(**header["fit"])
    standardisation = Standardisation(_single(target).map, fit)
    metrics = jax.tree.map(np.asarray, parts["metrics"])
    report = RunReport.from_attributes(header["report"])
    atlas, doubts = parts["atlas"], tuple(parts["doubts"])
    return SavedPosterior(parts["process"], target, standardisation, metrics, report, atlas, doubts)


def _single(target: SeenTarget) -> StandardisedTarget:
    """The whole target in the coordinates of its first chart, by which it is recognised."""
    return StandardisedTarget(target.base, first_map(view_of(target)))


def _can_be_saved(*data: Any) -> bool:
    """Whether a file can hold the data; if it cannot, `nb.load` asks for them."""
    try:
        describe_whole(data, [])
    except NotDescribable:
        return False
    return True


def _same_target(path, model, args: tuple[Any, ...], kwargs: dict[str, Any], saved) -> Target:
    if isinstance(model, Target):
        return model
    if not args and not kwargs:
        if saved is None:
            raise ValueError(
                f"the model's arguments are not in {os.fspath(path)!r}; call "
                "nb.load(path, model, *args, **kwargs) with them"
            )
        args, kwargs = saved
    return target_from_model(jax.random.key(0), model, *args, **kwargs)


def _check_same_model(path, header, target: SeenTarget) -> None:
    if target.base.dim != header["dim"]:
        raise ValueError(
            f"the model has {target.base.dim} unconstrained dimensions, the one saved in "
            f"{os.fspath(path)!r} had {header['dim']}; load it with that model and data"
        )
    sites = shapes(target.base.sites)
    if sites != header["sites"]:
        raise ValueError(
            f"the model has these sites, with their unconstrained shapes: {sites}; the one saved "
            f"in {os.fspath(path)!r} had {header['sites']}; load it with that model"
        )
    other = difference(header["fingerprint"], fingerprint(_single(target)))
    if other is not None:
        raise ValueError(
            f"{other} when {os.fspath(path)!r} was written; load it with the model and data it was "
            "trained on"
        )
