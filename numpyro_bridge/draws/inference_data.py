"""Draws as an ArviZ object: an `InferenceData` (ArviZ 0.x) or a `DataTree` (ArviZ 1.x).

The object has these groups:

- `posterior`: the corrected draws.
- `sample_stats`: `log_weight`, `lp` (the log density of the unconstrained target), `chart` (where
  there are several charts, the number of the one that a draw is on) and, with the correction
  `"metropolis"`, `accepted` and `acceptance_rate` (the probability of accepting each proposal).
- For a NumPyro model also `log_likelihood`, `log_prior`, `posterior_predictive`, `prior`,
  `prior_predictive`, `observed_data` and `constant_data` (the array arguments of the model that are
  not observed).

`log_prior` holds the log density of each latent site given the sites that it depends on, as it
enters `lp`: with masks and scales, but without log-determinants, and zero where a prior is flat.
What a model adds by `numpyro.factor` is in `log_likelihood`. Both groups together tell how much the
posterior depends on the prior: `arviz.psens` in ArviZ 0.x, `arviz.psense_summary` in ArviZ 1.x.

Groups that a model cannot give are left out. There are no prior groups if the prior cannot be drawn
exactly, because it is improper, masked or scaled, or has discrete sites. A warning tells of two
other cases. There is neither a pointwise likelihood nor a `log_prior` if discrete sites are summed
out; predictive draws take new values of these sites. And there are neither pointwise likelihoods
nor predictions if they would take more memory than `nb.set_memory_limit` allows.

Attributes of the root, of `posterior` and of `sample_stats` hold the evidence (if there is one),
the diagnostics of the weights, and the costs.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from numpyro_bridge._core import weights
from numpyro_bridge._core.checks import check_count, check_key
from numpyro_bridge._core.doors import check_here
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.corrections import Correction, check_correction, correct
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.labels import names_of_dims
from numpyro_bridge.draws.model_groups import Groups, Wanted, model_groups
from numpyro_bridge.target import ModelTarget
from numpyro_bridge.training.report import Attributes


def to_inference_data(
    draws: Draws,
    *,
    num_chains: int = 4,
    correction: Correction = "metropolis",
    rng_key: RNGKey | None = None,
    prior: bool = True,
    predictive: bool = True,
    log_likelihood: bool = True,
    log_prior: bool = True,
    exclude: Sequence[str] = (),
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Correct draws and make an ArviZ object of them; its groups are listed above.

    >>> idata = nb.to_inference_data(draws, num_chains=2)

    - `"metropolis"` (default) cuts the independent draws into chains and runs an independence
      Metropolis-Hastings algorithm over each, on path space. It is exact for any trained sampler,
      and `ess` and `r_hat` mean what they mean for MCMC: where the sampler is poor, chains stick.
    - `"psis"` resamples all draws by Pareto-smoothed weights. `r_hat` then means nothing, and `ess`
      does not notice that draws are repeated: judge by `pareto_k`.
    - `None` keeps the draws as the sampler made them, which is its approximation and *not* the
      posterior. `ess` and `r_hat` look perfect however wrong the approximation is.

    Args:
        draws: what a sampler returned.
        num_chains: number of chains; draws that do not fill a chain are dropped, with a warning.
        correction: `"metropolis"`, `"psis"` or `None`, see above.
        rng_key: a JAX key; `jax.random.key(0)` if not given.
        prior: whether to draw the prior groups, as many draws as one chain has.
        predictive: whether to draw `posterior_predictive` and `prior_predictive`.
        log_likelihood: whether to compute the pointwise log likelihood, for `arviz.loo`.
        log_prior: whether to compute the log prior of each site, for `arviz.psens` or `psense`.
        exclude: sites to leave out of `posterior` and `prior`.
        coords: dimension name to labels; integers from zero where not given.
        dims: variable name to dimension names; they replace those of the model's plates.

    Returns:
        An `arviz.InferenceData` (ArviZ 0.x) or an `xarray.DataTree` (ArviZ 1.x).

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if `correction` is unknown, there are fewer draws than chains, a weight is NaN
            or infinite, or `coords` or `dims` do not fit the shapes of the sites.

    Warns:
        ReliabilityWarning: if the draws are not to be trusted.
        UserWarning: if draws are left out, or groups that were asked for cannot be given.
    """
    check_here("to_inference_data", rng_key)
    arviz = _import_arviz()
    num_chains = _check_request(draws, num_chains, correction, rng_key)
    asked = Wanted(prior, predictive, log_likelihood, log_prior, exclude)
    wanted = asked.checked(draws, stacklevel=3)
    names = names_of_dims(draws.target, draws.sites, coords, dims)
    draws.warn_if_unreliable(stacklevel=3)
    groups = _groups(rng_key, draws, num_chains, correction, wanted)
    return _assemble(arviz, groups, names, coords, _attributes(draws, correction))


def _groups(
    rng_key: RNGKey | None,
    draws: Draws,
    num_chains: int,
    correction: Correction,
    wanted: Wanted,
) -> Groups:
    """All groups that the model allows and that are wanted."""
    keys = jax.random.split(jax.random.key(0) if rng_key is None else rng_key)
    indices, extra_stats = correct(keys[0], draws.log_weight, num_chains, correction)
    kept = [name for name in draws.sites if name not in wanted.exclude]
    groups: Groups = {
        "posterior": {name: draws.sites[name][indices] for name in kept},
        "sample_stats": {
            "lp": _whole(draws.log_density[indices], draws),
            "log_weight": _whole(draws.log_weight[indices], draws),
            **({"chart": jnp.asarray(draws.chart)[indices]} if draws.num_charts > 1 else {}),
            **extra_stats,
        },
    }
    draws.target.check_unchanged()
    if not isinstance(draws.target, ModelTarget):
        return groups
    latents = {name: draws.sites[name][indices] for name in draws.target.sites}
    return groups | model_groups(keys[1], draws.target, latents, wanted, kept)


def _whole(value: Array, draws: Draws) -> Array | np.ndarray:
    """Add what was left out of log densities, in double precision, where there is anything."""
    log_scale = draws.target.log_scale
    return value if log_scale == 0 else np.asarray(value, np.float64) + log_scale


def _import_arviz() -> Any:
    try:
        import arviz
    except ImportError as error:
        raise ImportError(
            "to_inference_data needs ArviZ, which could not be imported. Install it: "
            "pip install 'arviz[h5netcdf]' (on Python 3.11: pip install 'arviz<1')"
        ) from error
    return arviz


def _check_request(draws: Any, num_chains: Any, correction: Any, rng_key: Any) -> int:
    if not isinstance(draws, Draws):
        raise ValueError(
            "draws must be what a sampler drew, such as posterior.sample(rng_key), got "
            f"{type(draws).__name__}"
        )
    check_correction(correction)
    num_chains = check_count("num_chains", num_chains, 1)
    if num_chains > draws.num_samples:
        raise ValueError(
            f"num_chains should be between 1 and the number of draws, {draws.num_samples}, but it "
            f"is {num_chains}. Ask the sampler for more draws, or for fewer chains here."
        )
    if correction is not None:
        weights.require_usable(draws.log_weight)
    if rng_key is not None:
        check_key(rng_key)
    return num_chains


def _attributes(draws: Draws, correction: str | None) -> Attributes:
    """Evidence, diagnostics and costs, as the strings and numbers that netCDF can store."""
    evidence = {
        "log_evidence": draws.log_evidence,
        "log_evidence_error": draws.log_evidence_error,
    }
    return {
        **draws.report.attributes(),
        **(evidence if draws.target.has_evidence else {}),
        "elbo": draws.elbo,
        "elbo_error": draws.elbo_error,
        "ess": draws.ess,
        "pareto_k": draws.pareto_k,
        "tail_share": draws.tail_share,
        "num_charts": draws.num_charts,
        "num_non_finite": int(draws.num_non_finite),
        "correction": "none" if correction is None else correction,
        "inference_library": "numpyro_bridge",
        "inference_library_version": metadata.version("numpyro-bridge"),
    }


def _assemble(
    arviz: Any,
    groups: Groups,
    dims: dict[str, list[str | None]],
    coords: Mapping[str, Sequence[Any]] | None,
    attributes: Attributes,
) -> Any:
    """Call `arviz.from_dict`, whose signature differs between ArviZ 0.x and 1.x."""
    arrays = {
        group: {name: np.asarray(value) for name, value in values.items()}
        for group, values in groups.items()
    }
    coords = None if coords is None else {name: list(labels) for name, labels in coords.items()}
    log_prior = arrays.pop("log_prior", {})
    makes_trees = int(arviz.__version__.split(".")[0]) >= 1
    if makes_trees:
        attrs = {name: attributes for name in ("/", "posterior", "sample_stats")}
        made = arviz.from_dict(arrays, coords=coords, dims=dims, attrs=attrs)
    else:
        made = arviz.from_dict(
            **arrays,
            coords=coords,
            dims=dims,
            attrs=attributes,
            posterior_attrs=attributes,
            sample_stats_attrs=attributes,
        )
    if log_prior:
        # `from_dict` of 0.x passes over this group, and that of 1.x refuses dims of events in it.
        dataset = arviz.dict_to_dataset(log_prior, coords=coords, dims=dims, skip_event_dims=True)
        made["log_prior"] = type(made)(dataset) if makes_trees else dataset
    return made
