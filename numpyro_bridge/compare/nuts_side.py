"""Draws of NUTS in the form of the bridge's, and a check that the posterior is the same."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer

from numpyro_bridge.compare.nuts import NutsRun
from numpyro_bridge.draws.inference_data import Groups
from numpyro_bridge.draws.inference_data import _assemble as assemble
from numpyro_bridge.draws.inference_data import _import_arviz as import_arviz
from numpyro_bridge.draws.prediction import model_of, pointwise_log_likelihood
from numpyro_bridge.target import ModelTarget, Target, target_from_model

NUM_BACKWARD = 1_000
"""Number of draws of NUTS from which the bridge is run backward."""

NUM_COMPARED = 8
"""Number of draws at which the log densities of bridge and NUTS are compared."""

DATA_GROUPS = ("observed_data", "constant_data")
"""Groups of an ArviZ object that do not depend on the sampler."""


def some_draws(run: NutsRun, target: Target) -> Any:
    """Up to 1,000 draws of NUTS, evenly spaced, in a form that `Posterior.run_backward` takes."""
    samples: Any = run.samples
    if not target.sites:
        (samples,) = jax.tree.leaves(samples)
    samples = jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), samples)
    total = len(jax.tree.leaves(samples)[0])
    rows = np.linspace(0, total - 1, min(total, NUM_BACKWARD)).astype(int)
    return jax.tree.map(lambda values: values[rows], samples)


def nuts_to_arviz(
    run: NutsRun, target: Target, bridge: Any, coords: Mapping[str, Sequence[Any]] | None
) -> Any:
    """Make the ArviZ object of NUTS, with the groups, dimensions and data of the bridge's object.

    `arviz.from_numpyro` would run the model once more at a draw from the prior, and under a vague
    prior that draw can have parameters that NumPyro refuses.
    """
    samples = run.samples
    groups: Groups = {"posterior": samples, "sample_stats": run.stats}
    posterior = bridge["posterior"].data_vars
    dims = {name: list(array.dims[2:]) for name, array in posterior.items()}  # chain and draw first
    for group in DATA_GROUPS:
        data = getattr(bridge, group, None)
        if data is not None:
            dims |= {name: list(array.dims) for name, array in data.data_vars.items()}
            groups[group] = {name: array.values for name, array in data.data_vars.items()}
    if getattr(bridge, "log_likelihood", None) is not None:
        model = model_of(target, "log_likelihood")
        latents = {name: samples[name] for name in model.sites}
        groups["log_likelihood"] = pointwise_log_likelihood(model, latents)
    library: dict[str, str | int | float] = {
        "inference_library": run.library,
        "inference_library_version": version(run.library),
    }
    return assemble(import_arviz(), groups, dims, coords, library)


def check_same_posterior(mcmc: numpyro.infer.MCMC, target: Target) -> None:
    """Raise a ValueError unless this is a finished run on the same model and data."""
    if mcmc.last_state is None:
        raise ValueError(
            "mcmc has not run yet: call mcmc.run(rng_key, ...) with the model's arguments first, "
            "or leave mcmc out and NUTS is run here"
        )
    samples = mcmc.get_samples(group_by_chain=True)
    example = jax.eval_shape(target.constrain, jnp.zeros(target.dim))
    expected = {name: example[name].shape for name in target.sites or example}
    if not isinstance(samples, dict):
        raise ValueError(
            f"mcmc should have the sites {expected}, but its samples have no names. With a "
            'potential function, write NUTS(potential_fn=lambda site: -log_density(site["x"])) '
            'and start it with init_params={"x": ...}'
        )
    got = {name: value.shape[2:] for name, value in samples.items()}
    wrong = {name: got.get(name) for name, shape in expected.items() if got.get(name) != shape}
    if wrong:
        raise ValueError(
            f"mcmc should be of the same model as the bridge, with the sites {expected}, but "
            f"its sites are {got}: {sorted(wrong)} are missing or of another shape"
        )
    _check_same_density(mcmc, target, list(expected))
    _check_same_density_at_draws(mcmc, target, samples)


def _check_same_density(mcmc: numpyro.infer.MCMC, target: Target, sites: list[str]) -> None:
    """Compare log densities where the chains ended, since other data give other values."""
    unconstrained = getattr(mcmc.last_state, "z", None)
    energy = getattr(mcmc.last_state, "potential_energy", None)
    if energy is None or not isinstance(unconstrained, dict) or not set(sites) <= {*unconstrained}:
        return  # not every kernel keeps them
    rows = [jnp.reshape(unconstrained[name], (mcmc.num_chains, -1)) for name in sites]
    positions = jnp.concatenate(rows, axis=1).astype(jnp.result_type(float))
    expected = np.asarray(jax.vmap(target.log_density)(positions)) + target.log_scale
    got = -np.reshape(np.asarray(energy), -1)
    if not np.allclose(expected, got, rtol=1e-3, atol=1e-2):
        raise ValueError(
            "mcmc should be of the same model and data as the bridge, but where its chains ended "
            f"its log density is {got} and the bridge's {expected}: run it with the arguments "
            "that the bridge was trained with"
        )


def _check_same_density_at_draws(
    mcmc: numpyro.infer.MCMC, target: Target, samples: dict[str, Any]
) -> None:
    """Compare log densities at some draws: at a single position those of other data may be equal.

    They are those of the arguments that the chains ran with, where these are known.
    """
    model, args = getattr(mcmc.sampler, "model", None), getattr(mcmc, "_args", None)
    if not isinstance(target, ModelTarget) or model is None or args is None:
        return
    theirs = target_from_model(jax.random.key(0), model, *args, **getattr(mcmc, "_kwargs", {}))
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in samples.items()}
    rows = np.linspace(0, len(next(iter(flat.values()))) - 1, NUM_COMPARED).astype(int)
    chosen = {name: flat[name][rows] for name in target.sites}
    positions = jax.vmap(target.unconstrain)(chosen)
    expected = np.asarray(jax.vmap(target.log_density)(positions)) + target.log_scale
    got = np.asarray(jax.vmap(theirs.log_density)(positions)) + theirs.log_scale
    if not np.allclose(expected, got, rtol=1e-5, atol=1e-2):
        raise ValueError(
            "mcmc should be of the same model and data as the bridge, but at its draws the log "
            f"density of what it was run with is {got} and the bridge's {expected}: run it with "
            "the arguments that the bridge was trained with"
        )
