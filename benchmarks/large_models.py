"""NumPyro models of a hundred to five thousand dimensions, with data simulated from them."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

Simulated = tuple[Callable[..., Any], dict[str, Any]]
"""A model, and its arguments by name."""


def _in_single_precision(**values) -> dict[str, Any]:
    arrays = {name: np.asarray(value) for name, value in values.items()}
    return {
        name: value.astype(np.float32) if value.dtype.kind == "f" else value.astype(np.int32)
        for name, value in arrays.items()
    }


# --- item response --------------------------------------------------------------------------------


def item_response(ability_of, item_of, num_persons, num_items, answer=None):
    """Answers of persons to items, which differ in discrimination and difficulty (2PL)."""
    with numpyro.plate("persons", num_persons):
        ability = jnp.asarray(numpyro.sample("ability", dist.Normal(0, 1)))
    with numpyro.plate("items", num_items):
        log_discrimination = jnp.asarray(numpyro.sample("log_discrimination", dist.Normal(0, 0.5)))
        difficulty = jnp.asarray(numpyro.sample("difficulty", dist.Normal(0, 1)))
    slope = jnp.exp(log_discrimination)[item_of]
    logits = slope * (ability[ability_of] - difficulty[item_of])
    numpyro.sample("answer", dist.Bernoulli(logits=logits), obs=answer)


def _item_response(num_persons: int, num_items: int, answers_each: int) -> Simulated:
    rng = np.random.default_rng([0, num_persons])
    person = np.repeat(np.arange(num_persons), answers_each)
    chosen = [rng.choice(num_items, answers_each, replace=False) for _ in range(num_persons)]
    item = np.concatenate(chosen)
    ability: np.ndarray = rng.standard_normal(num_persons)
    difficulty: np.ndarray = rng.standard_normal(num_items)
    discrimination = np.exp(0.5 * rng.standard_normal(num_items))
    logits = discrimination[item] * (ability[person] - difficulty[item])
    answer = (rng.uniform(size=item.size) < 1 / (1 + np.exp(-logits))).astype(int)
    arrays = _in_single_precision(ability_of=person, item_of=item, answer=answer)
    return item_response, {**arrays, "num_persons": num_persons, "num_items": num_items}


# --- hierarchy ------------------------------------------------------------------------------------


def hierarchy(x, group, num_groups, y=None):
    """Groups with an effect of their own, not centred, and three coefficients for all."""
    with numpyro.plate("covariates", x.shape[1]):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
    spread = numpyro.sample("spread", dist.HalfNormal(1))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("groups", num_groups):
        z = jnp.asarray(numpyro.sample("z", dist.Normal(0, 1)))
    numpyro.sample("y", dist.Normal(x @ slope + spread * z[group], noise), obs=y)


def _hierarchy(dim: int) -> Simulated:
    num_groups = dim - 5
    rng = np.random.default_rng([1, dim])
    group = np.repeat(np.arange(num_groups), 5)
    x = rng.normal(size=(group.size, 3))
    effect: np.ndarray = rng.standard_normal(num_groups) / 2
    y = x @ np.array([0.5, -1.0, 0.2]) + effect[group] + 0.7 * rng.normal(size=group.size)
    return hierarchy, {**_in_single_precision(x=x, group=group, y=y), "num_groups": num_groups}


# --- Gaussian-process classifier ------------------------------------------------------------------


def process_classifier(x, label=None):
    """A latent Gaussian process over the line, whitened, with its scale and length unknown."""
    log_scale = numpyro.sample("log_scale", dist.Normal(0, 0.5))
    log_length = jnp.asarray(numpyro.sample("log_length", dist.Normal(-1, 0.5)))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([x.shape[0]]).to_event(1))
    distance = jnp.abs(x[:, None] - x) * jnp.exp(-log_length)
    kernel = (1 + jnp.sqrt(3.0) * distance) * jnp.exp(-jnp.sqrt(3.0) * distance)
    factor = jnp.linalg.cholesky(kernel + 1e-4 * jnp.eye(len(x)))
    numpyro.sample("label", dist.Bernoulli(logits=jnp.exp(log_scale) * factor @ z), obs=label)


def _process_classifier(dim: int) -> Simulated:
    rng = np.random.default_rng([2, dim])
    x: np.ndarray = np.sort(rng.uniform(-2, 2, dim - 2))
    label = rng.uniform(size=x.size) < 1 / (1 + np.exp(-3 * np.sin(2 * x)))
    return process_classifier, _in_single_precision(x=x, label=label.astype(int))


# --- by name --------------------------------------------------------------------------------------


def _horseshoe(num: int) -> Simulated:
    from benchmarks.atlas_models import horseshoe, horseshoe_data

    return horseshoe, horseshoe_data(num, False)


LOADERS: dict[str, Callable[[], Simulated]] = {
    "item_response_120d": lambda: _item_response(80, 20, 20),
    "item_response_500d": lambda: _item_response(400, 50, 50),
    "item_response_5000d": lambda: _item_response(4_000, 500, 40),
    "hierarchy_100d": lambda: _hierarchy(100),
    "hierarchy_400d": lambda: _hierarchy(400),
    "horseshoe_401d": lambda: _horseshoe(200),
    "process_classifier_300d": lambda: _process_classifier(300),
}


def load(name: str) -> Simulated:
    """A model and its simulated data."""
    return LOADERS[name]()
