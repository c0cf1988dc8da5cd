"""The posterior of the same model with other data, from where the charts of this one are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_instance
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.chart import chart
from numpyro_bridge.atlas.coupling import CouplingMap
from numpyro_bridge.atlas.explore import Exploration
from numpyro_bridge.atlas.maps import DenseMap, as_dense
from numpyro_bridge.atlas.stacked import stack
from numpyro_bridge.draws.prediction import model_of
from numpyro_bridge.infer.bridge_sampler import BridgeSampler
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.target import Target

WARM = "the charts began at those of other data"
"""Why no particles look for what the charts may lack, in the verdict."""


def refit(
    rng_key: RNGKey, posterior: Posterior[Any], /, *args: Any, **kwargs: Any
) -> Posterior[Any]:
    """The posterior of the same model with other data, begun at the charts of this one.

    >>> other = nb.refit(key, posterior, x, y=y + 0.1)
    >>> other.sample(key).verdict.trustworthy
    True

    It takes a fraction of the time of a run, since nothing is explored: charts are fitted from
    those of `posterior`, judged, and repaired where probes find mass beyond them. It suits data
    that differ by little, as without one observation, or with one more day. For other data use
    `BridgeSampler.run`, or `run_many`.

    Args:
        rng_key: The same key gives the same result.
        posterior: A posterior of the model, with any data.
        *args: Positional arguments of the model.
        **kwargs: Keyword arguments of the model.

    Raises:
        ValueError: if the posterior is not that of a model, or the model has other latent sites
            with these arguments.
    """
    check_door("refit", rng_key, args, kwargs)
    check_instance("posterior", posterior, Posterior, "what BridgeSampler.run returned")
    before = model_of(posterior.target.base, "refit")
    return sampler_from(posterior, before.model).run(rng_key, *args, **kwargs)


def sampler_from(posterior: Posterior[Any], model: Callable[..., Any]) -> BridgeSampler:
    """A sampler that begins at the charts of a posterior, of a model with the same latent sites."""
    explore = partial(_at_charts, _charts_of(posterior), posterior.target.base.sites)
    charts = partial(chart, temper=_no_particles)
    return BridgeSampler(model, explore=explore, charts=charts, progress_bar=False)


def _charts_of(posterior: Posterior[Any]) -> tuple[DenseMap, np.ndarray]:
    """The normal distributions of the charts, stacked, and the logs of their masses."""
    if posterior.atlas is not None:
        return posterior.atlas.normals, np.asarray(posterior.atlas.log_mass, float)
    only = posterior.standardisation.map
    affine: Any = only.affine if isinstance(only, CouplingMap) else only
    return stack([as_dense(affine)]), np.zeros(1)


def _at_charts(
    charts: tuple[DenseMap, np.ndarray],
    sites: dict[str, tuple[int, ...]],
    rng_key: RNGKey,
    target: Target,
) -> Exploration:
    """The places to chart, which are those of the charts."""
    if target.sites != sites:
        raise ValueError(
            f"refit: the latent sites have the shapes {target.sites} with these arguments, and the "
            f"posterior to begin at has {sites}. Use nb.BridgeSampler(model).run"
        )
    normals, log_mass = charts
    return Exploration(
        normals=normals,
        log_mass=log_mass,
        num_at_place=(1,) * len(log_mass),
        num_new=0,
        num_climbs=0,
        settled=True,
        num_gradient_evaluations=0,
    )


def _no_particles(*_: Any) -> str:
    return WARM
