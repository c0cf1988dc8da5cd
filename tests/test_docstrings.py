"""Examples in docstrings: all that is public has one, and each of them runs as a doctest.

These names are there in every example:

- `nb`, `jax`, `jnp`, `np` and `partial`, as everywhere in this project, and `key`, a random key;
- `model(x, y=None)`, a small regression whose only latent site `w` has two elements, and its data
  `x` and `y`;
- `sampler`, a function that is called as `model` is, with a key in front, and draws exactly;
- `posterior`, a small bridge on `model` given `x` and `y`, `draws` from it, and `idata`, their
  ArviZ object; `flat`, draws given the same `y` where no element of `w` is a slope;
- `bimodal`, a posterior of two normal modes, on two charts;
- `training`, as `nb.training.fit` returns it, and `comparison`, as `nb.compare_with_nuts` does;
- `amortised`, the posteriors of `model` given any `y`;
- `target`, a standard normal density in two dimensions, unnormalised, and `process`, an untrained
  `nb.CMCD` of four steps for it;
- `denoiser`, untrained, and `samples` of a standard normal distribution to train it on, both in two
  dimensions.

An example may write files: the folder is empty.
"""

import doctest
import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import chain
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import DenseMap, identity_map
from numpyro_bridge.atlas.stacked import stack
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.compare.tables import table_of_parameters
from numpyro_bridge.infer.amortise.conditional_bridge import ConditionalBridge
from numpyro_bridge.infer.amortise.conditional_normal import ConditionalNormal
from numpyro_bridge.infer.amortise.context import ContextScale, all_values
from numpyro_bridge.target.simulation import target_of_data
from tests import targets
from tests.catalogue import narrow
from tests.namespaces import NAMESPACES
from tests.schools import draws_near

KEY = jax.random.key(0)
X, Y = targets.regression_data()
PROCESS = nb.CMCD(KEY, 2, num_steps=4, control=narrow(8))
REPORT = nb.training.RunReport(
    "CMCD",
    objective="reverse_kl_ld",
    stopped=nb.training.Stop.PLATEAU,
    num_iterations=50,
    num_gradient_evaluations=12_800,
    seconds=nb.training.Seconds(standardise=2.5, compile=1.5, train=4.0),
)
RISING, ONES = jnp.linspace(0, 1, 50), jnp.ones(50)
METRICS = nb.training.TrajectoryMetrics(RISING - 13.9, ONES, RISING, 0 * ONES, 0 * ONES)
model = targets.regression


def exact_draws(rng_key, x, y) -> dict[str, Any]:
    mean, covariance, _ = targets.regression_posterior(x, np.asarray(y))
    noise = np.asarray(jax.random.normal(rng_key, (400, 2)))
    return {"w": mean + noise @ np.linalg.cholesky(covariance).T}


def posterior_of_model() -> nb.Posterior:
    """A bridge in coordinates where the posterior is standard normal: good without training."""
    mean, covariance, _ = targets.regression_posterior(X, Y)
    affine = DenseMap(jnp.asarray(mean), jnp.linalg.cholesky(jnp.asarray(covariance)))
    target = StandardisedTarget(nb.target_from_model(KEY, model, X, y=Y), affine)
    return nb.Posterior(PROCESS, target, nb.atlas.Standardisation(affine), METRICS, REPORT)


def bimodal_posterior() -> nb.Posterior:
    """A chart on each of two modes, as exploration would find them, and bridges not trained."""
    known, centre = targets.two_modes(), jnp.full(2, 2.0)
    maps = DenseMap(centre, 0.6 * jnp.eye(2)), DenseMap(-centre, 0.8 * jnp.eye(2))
    atlas = nb.atlas.Atlas(
        maps,
        normals=stack(maps),
        log_mass=np.log([targets.HEAVY, 1 - targets.HEAVY]) + known.log_evidence,
        log_evidence=known.log_evidence,
        ess=0.99,
        tail_share=0.0,
        num_climbs=64,
        num_places=2,
        num_new=0,
        settled=True,
        witness=nb.atlas.Witness(np.asarray(known.draw(KEY, 512)), known.log_evidence, 0.05),
        uncovered=np.zeros((0, 2)),
        num_repairs=0,
        num_gradient_evaluations=5_000,
    )
    target = atlas.target(known.target, bridged=True)
    first = nb.atlas.Standardisation(maps[0])
    return nb.Posterior(stack([PROCESS] * 2), target, first, METRICS, REPORT, atlas)


def comparison_of(posterior: nb.Posterior, draws: nb.Draws, idata: Any) -> nb.compare.Comparison:
    """The bridge's own draws in the place of those of NUTS."""
    table = table_of_parameters(idata, idata, ["w", "slope"])
    costs = nb.compare.Costs(train_seconds=4.0, draw_seconds=1.0, min_ess_bulk=900.0)
    backward = nb.draws.BackwardRuns(draws.log_weight)
    parts = (idata, idata, table, costs, costs, draws, backward)
    return nb.compare.Comparison(*parts, np.ones(1), posterior)


def amortised_posterior() -> nb.infer.AmortisedPosterior:
    """Networks that were not trained, which give the prior whatever the data are."""
    zero, one = jnp.zeros(6), jnp.ones(6)
    bridge = ConditionalBridge(
        ContextScale(zero, one, -9 * one, 9 * one, DenseMap(zero, jnp.eye(6)), jnp.array(9.0)),
        identity_map(2),
        ConditionalNormal(KEY, 2, 6, width=8, depth=1),
        nb.diffusion.untrained_denoiser(KEY, 2, context_size=6, width=8, depth=1),
    )
    target = target_of_data(KEY, nb.target_from_model(KEY, model, X, y=Y))
    metrics = nb.training.LossMetrics(1.0 - RISING, 0 * ONES, 0 * ONES)
    report = nb.training.RunReport("DenoisingProcess", num_simulations=20_000)
    parts = (model, target, bridge, 4, all_values, metrics, metrics, report)
    return nb.infer.AmortisedPosterior(*parts)


@cache
def names_in_examples() -> dict[str, Any]:
    posterior = posterior_of_model()
    draws = posterior.sample(jax.random.key(1), 1_000)
    idata = nb.to_inference_data(draws)
    without_slope = nb.target_from_model(KEY, model, 0 * X, y=Y)
    return {
        "nb": nb,
        "jax": jax,
        "jnp": jnp,
        "np": np,
        "partial": partial,
        "key": KEY,
        "model": model,
        "x": X,
        "y": Y,
        "target": nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 2),
        "process": PROCESS,
        "posterior": posterior,
        "draws": draws,
        "flat": draws_near(without_slope, KEY, 1_000),
        "idata": idata,
        "bimodal": bimodal_posterior(),
        "training": nb.training.Training(PROCESS, METRICS, REPORT.stopped, 4.0, 1.5),
        "comparison": comparison_of(posterior, draws, idata),
        "denoiser": nb.diffusion.untrained_denoiser(KEY, 2, width=8, depth=1),
        "samples": nb.diffusion.Samples(jax.random.normal(jax.random.key(1), (1_000, 2))),
        "amortised": amortised_posterior(),
        "sampler": exact_draws,
    }


def members(namespace: ModuleType) -> Iterator[tuple[str, Any]]:
    """What `__all__` names, or without one what a module defines itself."""
    defined = [name for name, member in vars(namespace).items() if is_of(member, namespace)]
    for name in getattr(namespace, "__all__", defined):
        yield f"{namespace.__name__}.{name}", getattr(namespace, name)


def is_of(member: Any, module: ModuleType) -> bool:
    name = getattr(member, "__name__", "_")
    return not name.startswith("_") and getattr(member, "__module__", None) == module.__name__


def public(is_wanted: Callable[[Any], bool]) -> list:
    """Each once, under the first of its names."""
    places = (*NAMESPACES, nb.diffusion.noise, nb.diffusion.weightings)
    once: dict[int, tuple[str, Any]] = {}
    for name, each in chain.from_iterable(map(members, places)):
        once.setdefault(id(each), (name, each))
    return [pytest.param(*pair, id=pair[0]) for pair in once.values() if is_wanted(pair[1])]


def is_function(each: Any) -> bool:
    """Compiled functions are objects of JAX, which know what they wrap."""
    return inspect.isfunction(inspect.unwrap(each))


def is_class(each: Any) -> bool:
    return isinstance(each, type)


@pytest.fixture(autouse=True)
def tidy(tmp_path, monkeypatch):
    """Files go to an empty folder, and figures are closed."""
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")


def check_example(name: str, documented: Any) -> None:
    """Fail unless there is an example, and it returns what is written below it."""
    report: list[str] = []
    text = inspect.cleandoc(documented.__doc__ or "")
    example = doctest.DocTestParser().get_doctest(text, names_in_examples(), name, None, 0)
    assert example.examples, f"{name} has no example in its docstring: write one, after `>>> `"
    outcome = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not outcome.failed, "".join(report)


@pytest.mark.parametrize(("name", "function"), public(is_function))
def test_a_public_function_has_an_example_that_runs(name, function):
    check_example(name, function)


@pytest.mark.parametrize(("name", "public_class"), public(is_class))
def test_a_public_class_has_an_example_that_runs(name, public_class):
    check_example(name, public_class)
