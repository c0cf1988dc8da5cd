"""Leave observations out, one at a time or in groups, and ask how well the rest predicts them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from numpyro_bridge._core.checks import check_count, check_flag, check_instance, check_mapping
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.untyped_bases import Messenger
from numpyro_bridge._core.weights import pareto_smooth
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.prediction import model_of, pointwise_log_likelihood
from numpyro_bridge.draws.verdict import GOOD_PARETO_K
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.refit import sampler_from
from numpyro_bridge.target import ModelTarget


@dataclass(frozen=True, eq=False, repr=False)
class LeftOut:
    """How well each group of observations is predicted by all others.

    >>> left_out = nb.compare.leave_out(key, posterior, {"y": [0, 0, -1, -1, -1, -1]})
    >>> left_out.labels
    ('0',)

    Attributes:
        labels: What each group is called: the site and the index of an observation, or the number
            that the user gave to the group.
        elpd: Log density of each group's data given all others, in nats, shape (num_groups,).
        error: Monte Carlo standard errors of `elpd`.
        pareto_k: k-hat of the weights that leave the group out of the draws of all data.
        refitted: Whether the posterior without the group was fitted anew.
        trusted: Whether the draws are to be trusted from which the number comes.
    """

    labels: tuple[str, ...]
    elpd: Float[np.ndarray, " num_groups"]
    error: Float[np.ndarray, " num_groups"]
    pareto_k: Float[np.ndarray, " num_groups"]
    refitted: Bool[np.ndarray, " num_groups"]
    trusted: Bool[np.ndarray, " num_groups"]

    @property
    def total(self) -> float:
        """The sum over all groups, in nats: with one observation in each, `elpd_loo` of ArviZ."""
        return float(np.sum(self.elpd))

    @property
    def total_error(self) -> float:
        """Standard error of the total as a forecast for as many new groups, as ArviZ states it."""
        num = len(self.elpd)
        return float(np.sqrt(num * np.var(self.elpd))) if num > 1 else np.nan

    @property
    def table(self) -> Any:
        """A pandas data frame with a row for each group."""
        import pandas

        columns = {
            name: getattr(self, name)
            for name in ("elpd", "error", "pareto_k", "refitted", "trusted")
        }
        return pandas.DataFrame(columns, index=list(self.labels))

    def __repr__(self) -> str:
        """Say the total, not every number."""
        return (
            f"LeftOut(elpd={self.total:.2f} ± {self.total_error:.2f} of {len(self.elpd)} groups, "
            f"{int(np.sum(self.refitted))} of them refitted)"
        )


def leave_out(
    rng_key: RNGKey,
    posterior: Posterior[Any],
    groups: Mapping[str, Any] | None = None,
    *,
    num_samples: int = 4_000,
    refit_all: bool = False,
) -> LeftOut:
    r"""Leave observations out, one at a time or in groups, and predict them from all others.

    >>> left_out = nb.compare.leave_out(key, posterior, {"y": [0, 0, -1, -1, -1, -1]})
    >>> bool(left_out.trusted.all())
    True

    For each group $g$ of the data it is $\log p(y_g \mid y_{-g})$. The draws of all data are
    weighted with $1 / p(y_g \mid \theta)$, which is enough for most observations. Where the k-hat
    of these weights is above 0.5, the posterior without the group is fitted, by `nb.refit` from the
    charts of all data. So the result is exact, up to the errors that are stated.

    Groups that are not independent given the parameters, such as the years of a time series or the
    patients of a clinic, have to be left out together.

    Args:
        rng_key: The same key gives the same result.
        posterior: The posterior of a model, given all data.
        groups: For each observed site, whole numbers of the shape of its log likelihoods:
            observations with the same number, at whatever site, are left out together, and those
            with a negative number never. By default each is a group of its own.
        num_samples: Draws of each posterior.
        refit_all: Whether to refit for every group, whatever its k-hat.

    Raises:
        ValueError: if the posterior is not that of a model whose observations have likelihoods of
            their own, or `groups` does not fit the observations.
    """
    check_door("leave_out", rng_key)
    check_instance("posterior", posterior, Posterior, "what BridgeSampler.run returned")
    num_samples = check_count("num_samples", num_samples, 2)
    target = model_of(posterior.target.base, "leave_out")
    refit_all = check_flag("refit_all", refit_all)
    _check_groups(groups)
    draw_key, refit_key = jax.random.split(rng_key)
    draws = posterior.sample(draw_key, num_samples)
    terms = draws.log_likelihood()
    labels, numbers = _numbered(groups, {name: term.shape[1:] for name, term in terms.items()})
    found = [_by_weights(draws, _sum_in(terms, numbers, g)) for g in range(len(labels))]
    sampler = sampler_from(posterior, partial(_without, target.model))
    for group, one in enumerate(found):
        if refit_all or not one.pareto_k < GOOD_PARETO_K:
            key = jax.random.fold_in(refit_key, group)
            found[group] = _by_refit(key, sampler, target, numbers, group, num_samples)
            found[group] = found[group]._replace(pareto_k=one.pareto_k)
    elpd, error, pareto_k, refitted, trusted = map(np.asarray, zip(*found, strict=True))
    return LeftOut(labels, elpd, error, pareto_k, refitted, trusted)


class _Found(NamedTuple):
    """What is known of one group."""

    elpd: float
    error: float
    pareto_k: float
    refitted: bool
    trusted: bool


def _by_weights(draws: Draws, log_likelihood: np.ndarray) -> _Found:
    """From draws of all data, weighted so that they leave the group out."""
    smoothed = pareto_smooth(jnp.asarray(np.asarray(draws.log_weight, float) - log_likelihood))
    log_weight = np.asarray(smoothed.log_weight, float)
    elpd, error = _log_ratio(log_weight + log_likelihood, log_weight)
    return _Found(elpd, error, smoothed.pareto_k, False, draws.verdict.trustworthy)


def _by_refit(rng_key, sampler, target: ModelTarget, numbers, group: int, num: int) -> _Found:
    """From draws of the posterior without the group."""
    fit_key, draw_key = jax.random.split(rng_key)
    masks = {name: jnp.asarray(number != group) for name, number in numbers.items()}
    rest = sampler.run(fit_key, masks, *target.model_args, **target.model_kwargs)
    draws = rest.sample(draw_key, num)
    latents = {name: draws.sites[name] for name in target.sites}
    terms = pointwise_log_likelihood(target, latents, batch_ndims=1)
    log_weight = np.asarray(draws.log_weight, float)
    elpd, error = _log_ratio(log_weight + _sum_in(terms, numbers, group), log_weight)
    return _Found(elpd, error, np.nan, True, draws.verdict.trustworthy)


def _log_ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Log of the ratio of two sums over the same draws, and its standard error."""
    sums = np.logaddexp.reduce(above), np.logaddexp.reduce(below)
    shares = np.exp(above - sums[0]) - np.exp(below - sums[1])
    return float(sums[0] - sums[1]), float(np.sqrt(np.sum(shares**2)))


def _sum_in(terms: Mapping[str, Any], numbers: Mapping[str, np.ndarray], group: int) -> np.ndarray:
    """Log likelihood of the data of a group at each draw."""
    parts = [
        np.asarray(term, float)[:, numbers[name] == group].sum(axis=1)
        for name, term in terms.items()
    ]
    return np.sum(parts, axis=0)


def _numbered(
    groups: Any, shapes: dict[str, tuple[int, ...]]
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The labels of the groups, and the place of its group among them for each observation.

    Args:
        groups: What the user gave.
        shapes: The shape of the log likelihoods of each observed site.
    """
    if groups is None:
        return _each_its_own(shapes)
    _check_groups(groups)
    given = {name: np.asarray(number) for name, number in groups.items()}
    wrong = [
        name
        for name, number in given.items()
        if number.shape != shapes.get(name) or not np.issubdtype(number.dtype, np.integer)
    ]
    if wrong or not given:
        raise ValueError(
            f"groups should give whole numbers to observed sites, of the shapes {shapes}, got "
            f"{ {name: f'{number.dtype} {number.shape}' for name, number in given.items()} }"
        )
    present = np.unique(np.concatenate([number.ravel() for number in given.values()]))
    present = present[present >= 0]
    if not len(present):
        raise ValueError("groups: all numbers are negative, which leaves nothing out")
    places = {
        name: np.where(given[name] < 0, -1, np.searchsorted(present, given[name]))
        if name in given
        else np.full(shape, -1)
        for name, shape in shapes.items()
    }
    return tuple(map(str, present)), places


def _check_groups(groups: Any) -> None:
    if groups is not None:
        check_mapping("groups", groups, '{"y": [0, 0, 1, 1]}')


def _each_its_own(shapes: dict[str, tuple[int, ...]]):
    """Every observation of every site as a group."""
    labels, places = [], {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        places[name] = len(labels) + np.arange(size).reshape(shape)
        for index in np.ndindex(*shape):
            labels.append(f"{name}[{','.join(map(str, index))}]" if index else name)
    return tuple(labels), places


def _without(model: Any, masks: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """The model without the observations whose mask is False."""
    with _Masked(masks):
        return model(*args, **kwargs)


class _Masked(Messenger):
    """Take the likelihood of some observations out of a model."""

    def __init__(self, masks: dict[str, Any]):
        self.masks = masks
        super().__init__()

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["is_observed"] and msg["name"] in self.masks:
            msg["fn"] = msg["fn"].mask(self.masks[msg["name"]])
