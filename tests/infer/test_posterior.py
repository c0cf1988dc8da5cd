"""From a model to a posterior: draws with the right moments, evidence, predictions and modes."""

import dataclasses
import functools
import math
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.storage import save_tree
from numpyro_bridge.atlas.fit_normal import gaussian_vi, laplace
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.processes.initial import InitialNormal
from tests import targets
from tests.catalogue import narrow
from tests.statistics import assert_same_weighted_mean

TINY = {
    "process": partial(nb.CMCD, num_steps=4, control=narrow(8)),
    "standardise": partial(nb.standardise, candidates=(laplace,), num_starts=2, nonlinear=False),
    "num_iterations": 50,
    "num_trajectories": 32,
    "progress_bar": False,
}


def assert_same_draws(a: nb.Draws, b: nb.Draws) -> None:
    np.testing.assert_array_equal(a.log_weight, b.log_weight)
    np.testing.assert_array_equal(a.position, b.position)
    jax.tree.map(np.testing.assert_array_equal, a.sites, b.sites)


@pytest.fixture(scope="module")
def data():
    return targets.regression_data()


@pytest.fixture(scope="module")
def posterior(data) -> nb.Posterior:
    x, y = data
    return nb.BridgeSampler(targets.regression, **TINY).run(jax.random.key(0), x, y=y)


@pytest.fixture(scope="module")
def draws(posterior) -> nb.Draws:
    return posterior.sample(jax.random.key(1), num_samples=2_500)


@pytest.fixture
def saved(posterior, tmp_path):
    path = tmp_path / "folder" / "posterior"
    posterior.save(path)
    return path


# --- draws ----------------------------------------------------------------------------------------


def test_draws_have_the_moments_and_the_evidence_of_the_exact_posterior(draws, data):
    mean, covariance, log_evidence = targets.regression_posterior(*data)
    # The posterior is normal, so a Laplace fit makes it standard and the bridge near exact.
    assert draws.ess > 0.9
    assert draws.log_evidence == pytest.approx(log_evidence, abs=5 * draws.log_evidence_error)
    assert draws.elbo <= log_evidence + 3 * draws.elbo_error
    for i in range(2):
        w = draws.sites["w"][:, i]
        assert_same_weighted_mean(w, draws.log_weight, mean[i])
        second = covariance[i, i] + mean[i] ** 2
        assert_same_weighted_mean(w**2, draws.log_weight, second)


def test_draws_have_the_shapes_asked_for(draws, posterior):
    assert draws.num_samples == 2_500
    assert {name: site.shape for name, site in draws.sites.items()} == {
        "w": (2_500, 2),
        "slope": (2_500,),
    }
    np.testing.assert_allclose(draws.sites["slope"], draws.sites["w"][:, 1])
    assert draws.log_weight.shape == draws.log_density.shape == (2_500,)
    assert draws.position.shape == (2_500, 2)
    assert draws.num_non_finite == 0 and draws.warnings == ()
    one = posterior.sample(jax.random.key(1), num_samples=1)
    assert one.num_samples == 1 and one.sites["w"].shape == (1, 2)
    with pytest.raises(
        ValueError, match="num_samples must be a whole number >= 1, such as 10, got 0"
    ):
        posterior.sample(jax.random.key(1), num_samples=0)


def test_draws_are_in_the_coordinates_of_the_model(draws, posterior):
    target = posterior.target.base
    assert draws.target is target
    log_density = jax.vmap(target.log_density)(draws.position[:50])
    np.testing.assert_allclose(draws.log_density[:50], log_density, rtol=1e-9)
    sites = jax.vmap(target.constrain)(draws.position[:50])
    np.testing.assert_allclose(draws.sites["w"][:50], sites["w"], rtol=1e-9)


def test_no_two_draws_are_the_same_and_the_same_key_repeats_them(draws, posterior):
    assert len(np.unique(draws.log_weight)) == 2_500
    assert_same_draws(posterior.sample(jax.random.key(1), num_samples=2_500), draws)
    other = posterior.sample(jax.random.key(2), num_samples=10)
    assert not np.any(np.isin(other.log_weight, draws.log_weight))


def test_a_result_says_how_it_was_made(posterior, draws):
    report = posterior.report
    assert report.process == "CMCD" and report.objective == "reverse_kl_ld"
    assert report.stopped is nb.training.Stop.BUDGET and report.num_iterations == 50
    assert len(posterior.metrics.elbo) == 50
    assert report.num_gradient_evaluations >= 50 * 32 * 5
    spent_on_drawing = draws.report.num_gradient_evaluations - report.num_gradient_evaluations
    assert spent_on_drawing >= 2_500 * 5
    assert draws.report.seconds.draw > 0 and report.seconds.draw is None
    stages = (report.seconds.standardise, report.seconds.compile, report.seconds.train)
    assert all(seconds > 0 for seconds in stages)
    assert report.rounds == () and report.num_simulations is None
    assert repr(posterior) == (
        "Posterior(CMCD, dim=2, num_steps=4, num_iterations=50, stopped=budget)"
    )


# --- files ----------------------------------------------------------------------------------------


def test_a_loaded_posterior_gives_the_same_draws(posterior, saved):
    loaded = nb.load(saved, targets.regression)
    key = jax.random.key(1)
    assert_same_draws(loaded.sample(key, num_samples=100), posterior.sample(key, num_samples=100))
    assert loaded.report == posterior.report
    jax.tree.map(np.testing.assert_array_equal, loaded.metrics, posterior.metrics)
    assert loaded.standardisation.fit == posterior.standardisation.fit
    assert posterior.standardisation.fit.method == "laplace"
    # The data are in the file, and may be given again.
    x, y = targets.regression_data()
    again = nb.load(saved, targets.regression, x, y=y)
    assert_same_draws(again.sample(key, num_samples=100), loaded.sample(key, num_samples=100))


def other_regression(x, y=None):
    """The same sites and shapes under another prior."""
    w = numpyro.sample("w", dist.Normal(0, 5).expand([2]).to_event(1))
    intercept, slope = jnp.asarray(w)
    numpyro.sample("y", dist.Normal(intercept + slope * x, targets.NOISE), obs=y)


def larger_regression(x, y=None):
    """The same model with one parameter more."""
    scale = numpyro.sample("scale", dist.HalfNormal(1))
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    intercept, slope = jnp.asarray(w)
    numpyro.sample("y", dist.Normal(intercept + slope * x, scale), obs=y)


def test_another_model_or_other_data_are_refused(saved):
    message = "load it with the model and data it was trained on"
    with pytest.raises(ValueError, match=message):
        nb.load(saved, other_regression)
    with pytest.raises(ValueError, match="has 3 unconstrained dimensions.* had 2"):
        nb.load(saved, larger_regression)
    x, y = targets.regression_data(seed=5)
    with pytest.raises(ValueError, match=message):
        nb.load(saved, targets.regression, x, y=y)


def test_a_prior_is_told_from_another_beside_thousands_of_observations(tmp_path):
    def model(scale, y):
        mean = numpyro.sample("mean", dist.Normal(0, scale))
        numpyro.sample("y", dist.Normal(mean, 2), obs=y)

    y = 1 + 2 * np.random.default_rng(0).normal(size=3_000)
    sampler = nb.BridgeSampler(
        model,
        process=partial(nb.CMCD, num_steps=2, control=narrow(4)),
        standardise=nb.no_standardisation,
        num_iterations=1,
        progress_bar=False,
    )
    path = tmp_path / "posterior"
    sampler.run(jax.random.key(0), 10.0, y).save(path)
    nb.load(path, model, 10.0, y)
    with pytest.raises(ValueError, match="load it with the model and data"):
        nb.load(path, model, 30.0, y)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"not a posterior")
    with pytest.raises(ValueError, match="not a file of numpyro_bridge"):
        nb.load(path, targets.regression)
    save_tree(path, {"kind": "checkpoint"}, [])
    with pytest.raises(ValueError, match="holds a checkpoint, not a posterior"):
        nb.load(path, targets.regression)


def untrained_posterior(target: nb.target.Target) -> nb.Posterior:
    """A posterior on which no iteration was spent."""
    standardisation = nb.no_standardisation(jax.random.key(0), target)
    return nb.Posterior(
        process=nb.CMCD(jax.random.key(0), target.dim, num_steps=2, control=narrow(4)),
        target=StandardisedTarget(target, standardisation.map),
        standardisation=standardisation,
        metrics=None,
    )


class Table:
    """Data of a kind that no file of arrays can hold."""

    def __init__(self, values):
        self.values = values


def model_of_a_table(table):
    w = numpyro.sample("w", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(w, 1), obs=table.values)


def test_data_that_cannot_be_saved_are_asked_for(tmp_path):
    table = Table(np.asarray([1.0, 2.0]))
    posterior = untrained_posterior(
        nb.target_from_model(jax.random.key(0), model_of_a_table, table)
    )
    posterior.save(tmp_path / "file")
    with pytest.raises(ValueError, match=r"call nb.load\(path, model, \*args, \*\*kwargs\)"):
        nb.load(tmp_path / "file", model_of_a_table)
    loaded = nb.load(tmp_path / "file", model_of_a_table, table)
    assert loaded.standardisation.fit is None and loaded.metrics is None
    key = jax.random.key(1)
    assert_same_draws(loaded.sample(key, num_samples=10), posterior.sample(key, num_samples=10))


def test_a_posterior_of_another_precision_is_loaded_into_the_present_one(posterior, tmp_path):
    key = jax.random.key(1)
    process, map = jax.tree.map(
        lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x,
        (posterior.process, posterior.target.map),
    )
    target = StandardisedTarget(posterior.target.base, map)
    single = dataclasses.replace(posterior, process=process, target=target)
    with pytest.raises(ValueError, match="was made in float32 and JAX works in float64 now"):
        single.sample(key, num_samples=10)
    single.save(tmp_path / "file")
    loaded = nb.load(tmp_path / "file", targets.regression)
    np.testing.assert_allclose(
        loaded.sample(key, num_samples=10).position,
        posterior.sample(key, num_samples=10).position,
        atol=1e-3,
    )


# --- predictions ----------------------------------------------------------------------------------


def test_predictions_have_the_exact_moments(posterior, data):
    x, y = data
    mean, covariance, _ = targets.regression_posterior(x, y)
    key, new = jax.random.key(2), np.asarray([0.0, 2.0])
    for predicted, at in (
        (posterior.predictive(key, num_samples=4_000), x),
        (posterior.predictive(key, new, num_samples=4_000), new),
    ):
        design = np.stack([np.ones_like(at), at], axis=1)
        variance = np.sum(design @ covariance * design, axis=1) + targets.NOISE**2
        error = np.sqrt(variance / 4_000)
        assert np.all(np.abs(np.mean(predicted["y"], axis=0) - design @ mean) < 5 * error)
        np.testing.assert_allclose(np.var(predicted["y"], axis=0), variance, rtol=0.12)
        assert predicted.keys() == {"slope", "y"}
    few = posterior.predictive(key, new, num_samples=30, return_sites=["slope"])
    assert {name: x.shape for name, x in few.items()} == {"slope": (30,)}


# --- modes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_modes() -> tuple[targets.Known, nb.Posterior]:
    known = targets.two_modes(distance=4.0)
    standardise = partial(nb.standardise, candidates=(gaussian_vi,))
    sampler = nb.BridgeSampler(known.target, **{**TINY, "standardise": standardise})
    return known, sampler.run(jax.random.key(0))


def test_both_modes_are_visited_in_proportion(two_modes):
    known, posterior = two_modes
    draws = posterior.sample(jax.random.key(1), num_samples=8_000)
    assert draws.warnings == ()
    heavy = draws.sites["x"][:, 0] > 0
    assert 0.1 < float(jnp.mean(heavy)) < 0.95
    assert_same_weighted_mean(heavy, draws.log_weight, targets.HEAVY)
    assert draws.log_evidence == pytest.approx(known.log_evidence, abs=5 * draws.log_evidence_error)
    assert draws.log_evidence_error < 0.05
    assert draws.elbo <= known.log_evidence + 3 * draws.elbo_error


def test_modes_survive_a_file(two_modes, tmp_path):
    known, posterior = two_modes
    posterior.save(tmp_path / "file")
    loaded = nb.load(tmp_path / "file", known.target)
    jax.tree.map(
        np.testing.assert_array_equal, loaded.standardisation.modes, posterior.standardisation.modes
    )
    key = jax.random.key(1)
    assert_same_draws(loaded.sample(key, num_samples=50), posterior.sample(key, num_samples=50))
    with pytest.raises(ValueError, match="load it with the model and data"):
        nb.load(tmp_path / "file", targets.two_modes(distance=3.0).target)


def test_a_training_that_did_nothing_is_reported(posterior):
    idle = dataclasses.replace(
        posterior.report, num_skipped_updates=posterior.report.num_iterations
    )
    draws = dataclasses.replace(posterior, report=idle).sample(jax.random.key(0), num_samples=10)
    (warning,) = draws.warnings
    assert "50 of the 50 updates of the training were not finite" in warning
    assert not draws.verdict.trustworthy


def test_a_mode_that_no_draw_visits_is_reported(two_modes):
    """A bridge whose start was moved onto one mode cannot reach the other."""
    known, posterior = two_modes
    initial = InitialNormal(2, scale=0.05)
    heavy = posterior.target.map.inverse(jnp.asarray([4.0, 4.0]))
    initial = eqx.tree_at(lambda i: i.mean, initial, heavy)
    process = nb.CMCD(
        jax.random.key(0), 2, num_steps=4, control=narrow(8), diffusion=0.01, initial=initial
    )
    lost = dataclasses.replace(posterior, process=process)
    draws = lost.sample(jax.random.key(0), num_samples=500)
    (warning,) = draws.warnings
    assert "Mode 2 of the 2 that the starts found holds 0.00% of the draws" in warning
    assert not draws.verdict.trustworthy and warning in draws.verdict.text
    with pytest.warns(nb.ReliabilityWarning, match="Mode 2 of the 2"):
        draws.warn_if_unreliable()


# --- settings -------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "instance": (
        {"process": nb.CMCD(jax.random.key(0), 2, num_steps=2, control=narrow(4))},
        r"pass the class or a partial.*partial\(nb.CMCD",
    ),
    "name": ({"process": "CMCD"}, "process must be a function or class such as nb.CMCD"),
    "keyword": (
        {"process": partial(partial(nb.CMCD, num_step=8), control=narrow(4))},
        "CMCD takes no argument 'num_step'; did you mean 'num_s",
    ),
    "steps inside": (
        {"process": nb.objectives.with_log_evidence(partial(nb.CMCD, num_steps=0))},
        "num_steps must be a whole number",
    ),
    "steps": ({"process": partial(nb.CMCD, num_steps=2.5)}, "num_steps must be a whole .*got 2.5"),
    "width": (
        {"process": partial(nb.CMCD, control=narrow(0))},
        "width must be a whole number >= 1",
    ),
    "initial": (
        {"process": partial(nb.CMCD, initial=nb.processes.InitialPrior)},
        r"initial must be an instance such as nb.processes.InitialPrior\(\), got InitialPrior",
    ),
    "integrator": (
        {"process": partial(nb.UnderdampedCMCD, integrator="OBABO")},
        r"integrator must be an instance such as nb.processes.OBABO\(\), got 'OBABO'",
    ),
    "no rng_key": ({"process": lambda dim: nb.CMCD(jax.random.key(0), dim)}, "too many positional"),
    "bound twice": (
        {"process": partial(nb.CMCD, dim=1)},
        "CMCD cannot be called with .rng_key, dim., too many positional arguments.*and no more",
    ),
    "trainable": ({"trainable": 3}, "trainable must be a function of an array.*got 3"),
    "loss": ({"objective": "log_variance"}, "objective must be a function.*'log_variance'"),
    "factor": (
        {"objective": partial(nb.log_variance, factor=1.2)},
        "log_variance takes no argument 'factor'; It takes rng_",
    ),
    "sampling": (
        {"objective": partial(nb.reverse_kl_ld, sampling="widened")},
        "sampling must be a function or a number, got the string .widened",
    ),
    "batch": (
        {"objective": partial(nb.reverse_kl_ld, num_trajectories=32)},
        "write num_trajectories=32 beside objective",
    ),
    "parts": ({"objective": nb.mixed}, r"give it what it needs.*nb.mixed\(\(0.9"),
    "positions": (
        {"objective": nb.forward_kl_from_draws},
        r"too many positional arguments; give it what it needs, as in nb.forward_kl_from_draws",
    ),
    "standardise": ({"standardise": None}, "standardise must be a function .*got NoneType"),
    "iterations": ({"num_iterations": 0}, "num_iterations must be a whole number >= 1.*got 0"),
    "half": ({"num_iterations": 2.5}, "num_iterations must be a whole number >= 1.*got 2.5"),
    "one": ({"num_trajectories": 1}, "num_trajectories must be a whole number >= 2.*got 1"),
    "tolerance": ({"tolerance": -1}, "tolerance must be a number >= 0, such as 0.01, got -1"),
    "class": ({"curriculum": nb.ReplayBuffer}, r"such as nb.Tempering\(\) .*got ReplayBuffer"),
    "part": (
        {"objective": nb.reverse_kl, "curriculum": nb.ReplayBuffer(8, num_new=4)},
        r"reverse_kl cannot be called as a loss .*sampling\), got an unexpected .*'sampling'",
    ),
    "rate": ({"optimizer": 2e-3}, r"such as optax.adam\(0.002\) .*got 0.002"),
    "devices": ({"devices": "cpu"}, r"a list such as jax.devices\(\)"),
    "folder": ({"checkpoint": "."}, "checkpoint must be a file, and '.' is a folder"),
}
"""What cannot work, and a part of the message that says what to write instead."""


@pytest.fixture
def untyped(monkeypatch):
    """Users run without the type checker of the tests, which would speak first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_cannot_work_are_refused_with_what_to_write(name):
    settings, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        nb.BridgeSampler(targets.regression, **settings)


def test_a_process_may_be_wrapped():
    """What counts is what the wrapper takes, not what the function inside does."""

    def of_width(width, rng_key, dim):
        return nb.CMCD(rng_key, dim, control=narrow(width))

    @functools.wraps(of_width)
    def wrapped(rng_key, dim):
        return of_width(8, rng_key, dim)

    assert nb.BridgeSampler(targets.regression, process=wrapped).process is wrapped


@pytest.mark.usefixtures("untyped")
def test_what_is_no_model_or_no_key_is_refused():
    sampler: Any = nb.BridgeSampler
    with pytest.raises(ValueError, match="model must be a NumPyro model .a function. or a target"):
        sampler(jnp.zeros(3))
    with pytest.raises(TypeError, match="learning_rate"):
        sampler(targets.regression, learning_rate=1e-3)
    with pytest.raises(ValueError, match="CMCD takes no argument 'num_step'"):
        nb.objectives.with_log_evidence(partial(nb.CMCD, num_step=8))
    with pytest.raises(ValueError, match="A log density is made a target by nb.target_from_log"):
        sampler(lambda x: -jnp.sum(x**2)).run(jax.random.key(0))
    for key, got in ((0, "got 0"), (jax.random.split(jax.random.key(0)), r"of shape \(2,\)")):
        with pytest.raises(ValueError, match=rf"one JAX key, such as jax.random.key\(0\).*{got}"):
            sampler(targets.regression).run(key)


def test_a_target_holds_its_data_already():
    sampler = nb.BridgeSampler(targets.skewed().target, **TINY)
    with pytest.raises(ValueError, match=r"call run\(rng_key\) without further arguments"):
        sampler.run(jax.random.key(0), jnp.ones(3))


def test_a_sampler_remembers_nothing(posterior, data):
    sampler = nb.BridgeSampler(targets.regression, **TINY)
    before = dict(vars(sampler))
    x, y = data
    again = sampler.run(jax.random.key(0), x, y=y)
    assert vars(sampler) == before
    jax.tree.map(np.testing.assert_array_equal, again.process, posterior.process)


def test_a_sampler_runs_in_float32(data):
    x, y = data
    with jax.enable_x64(False):
        sampler = nb.BridgeSampler(targets.regression, **TINY)
        posterior = sampler.run(jax.random.key(0), x.astype(np.float32), y=y.astype(np.float32))
        draws = posterior.sample(jax.random.key(1), num_samples=500)
        assert draws.log_weight.dtype == draws.sites["w"].dtype == jnp.float32
        *_, log_evidence = targets.regression_posterior(x, y)
        error = max(5 * draws.log_evidence_error, 1e-3)
        assert draws.log_evidence == pytest.approx(log_evidence, abs=error)
        assert math.isfinite(draws.elbo) and draws.ess > 0.9
