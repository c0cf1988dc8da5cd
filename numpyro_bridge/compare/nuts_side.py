"""Draws of NUTS in the shape of the bridge's, and whether they are of the same posterior."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC

from numpyro_bridge.compare.nuts import NutsRun
from numpyro_bridge.draws.inference_data import Groups
from numpyro_bridge.draws.inference_data import _assemble as assemble
from numpyro_bridge.draws.inference_data import _import_arviz as import_arviz
from numpyro_bridge.draws.prediction import pointwise_log_likelihood
from numpyro_bridge.target import ModelTarget, Target

NUM_BACKWARD = 1_000
"""Draws of NUTS that the bridge is run backward from."""


def some_draws(run: NutsRun, target: Target) -> Any:
    """A thousand draws of NUTS, evenly spaced, as `Posterior.run_backward` takes them."""
    samples: Any = run.samples
    if not isinstance(target, ModelTarget):
        (samples,) = jax.tree.leaves(samples)
    samples = jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), samples)
    total = len(jax.tree.leaves(samples)[0])
    rows = np.linspace(0, total - 1, min(total, NUM_BACKWARD)).astype(int)
    return jax.tree.map(lambda values: values[rows], samples)


def nuts_to_arviz(
    run: NutsRun, target: Target, bridge: Any, coords: Mapping[str, Sequence] | None
) -> Any:
    """The groups that the bridge has, for NUTS, with the same dimensions and data.

    `arviz.from_numpyro` would run the model once more at a draw from the prior, which a vague prior
    can turn into parameters that NumPyro refuses.
    """
    samples = run.samples
    groups: Groups = {"posterior": samples, "sample_stats": run.stats}
    dims = {}
    for group in ("posterior", "observed_data", "constant_data"):
        data = getattr(bridge, group, None)
        if data is None:
            continue
        skip = 2 if group == "posterior" else 0
        dims |= {name: list(array.dims[skip:]) for name, array in data.data_vars.items()}
        if group != "posterior":
            groups[group] = {name: array.values for name, array in data.data_vars.items()}
    if isinstance(target, ModelTarget) and getattr(bridge, "log_likelihood", None) is not None:
        latents = {name: samples[name] for name in target.sites}
        groups["log_likelihood"] = pointwise_log_likelihood(target, latents)
    library: dict[str, str | int | float] = {
        "inference_library": run.library,
        "inference_library_version": version(run.library),
    }
    return assemble(import_arviz(), groups, dims, coords, library)


def check_same_posterior(mcmc: MCMC, target: Target) -> None:
    """Refuse a run that has not finished, or was of another model or of other data."""
    if mcmc.last_state is None:
        raise ValueError(
            "mcmc has not run yet: call mcmc.run(rng_key, ...) with the model's arguments first, "
            "or leave mcmc out and NUTS is run here"
        )
    samples = mcmc.get_samples(group_by_chain=True)
    example = jax.eval_shape(target.constrain, jnp.zeros(target.dim))
    latent = target.sites if isinstance(target, ModelTarget) else example
    expected = {name: example[name].shape for name in latent}
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


def _check_same_density(mcmc: MCMC, target: Target, sites: list[str]) -> None:
    """Compare log densities where the chains ended: other data give other numbers."""
    unconstrained = getattr(mcmc.last_state, "z", None)
    energy = getattr(mcmc.last_state, "potential_energy", None)
    if energy is None or not isinstance(unconstrained, dict) or not set(sites) <= {*unconstrained}:
        return  # not every kernel keeps them
    rows = [jnp.reshape(unconstrained[name], (mcmc.num_chains, -1)) for name in sites]
    positions = jnp.concatenate(rows, axis=1).astype(jnp.result_type(float))
    expected = np.asarray(jax.vmap(target.log_density)(positions))
    got = -np.reshape(np.asarray(energy), -1)
    if not np.allclose(expected, got, rtol=1e-3, atol=1e-2):
        raise ValueError(
            "mcmc should be of the same model and data as the bridge, but where its chains ended "
            f"its log density is {got} and the bridge's {expected}: run it with the arguments "
            "that the bridge was trained with"
        )
