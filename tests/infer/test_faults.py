"""Ctrl-C and broken optimisers: what exists is returned, or it is said that there is nothing."""

import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tqdm.auto import tqdm

import numpyro_bridge as nb
from numpyro_bridge._core import stages
from numpyro_bridge.atlas.atlas import one_chart
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import log_weights_of
from tests import faults
from tests.hill import interrupt_after

FEW_STEPS = partial(nb.AnnealedLangevin, num_steps=1)
TARGET = nb.target_from_log_density(lambda x: -jnp.sum(x + jnp.exp(-x)), 1)
"""Too skewed for a normal distribution, so that a single chart does not suffice."""


@pytest.fixture(scope="module")
def seen():
    """What exploring and charting might find: one place, and a chart that does not suffice."""
    normal = DenseMap(jnp.zeros(1), jnp.eye(1))
    place = nb.atlas.Exploration(
        jax.tree.map(lambda leaf: leaf[None], normal), np.zeros(1), (8,), 0, 8, True, 100
    )
    noise = jax.random.normal(jax.random.key(0), (1_000, 1))
    log_weight = np.asarray(log_weights_of(normal, TARGET, noise), float)
    atlas = one_chart(Standardisation(normal), place, log_weight)
    assert not atlas.good
    return place, atlas


def sampler(seen, **settings):
    exploration, atlas = seen
    return nb.BridgeSampler(
        TARGET,
        explore=lambda *_: exploration,
        charts=lambda *_, **__: atlas,
        num_iterations=2,
        num_trajectories=4,
        progress_bar=False,
        **settings,
    )


def press_at(monkeypatch, name):
    """Press Ctrl-C at the beginning of the stage of that name."""

    class Line(tqdm):
        def set_description_str(self, desc=None, refresh=True):
            if desc == name:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(stages, "tqdm", Line)


@pytest.mark.parametrize("name", faults.INTERRUPTS)
def test_ctrl_c_at_any_stage(monkeypatch, seen, name):
    """Where there are charts, their draws are returned, with a verdict that says why."""
    trained = name.startswith(("compiling", "looking", "drawing"))
    run = sampler(seen, process=FEW_STEPS if trained else None).run
    if name == "drawing":
        posterior = run(jax.random.key(0))
        run = posterior.sample
    press_at(monkeypatch, name)
    if faults.INTERRUPTS[name] == "raised":
        with pytest.raises(KeyboardInterrupt) as caught:
            run(jax.random.key(0))
        assert caught.value.__notes__ == [
            f"numpyro_bridge was interrupted while {name}, and has nothing to return"
        ]
        return
    posterior = run(jax.random.key(0))
    draws = posterior.sample(jax.random.key(1), num_samples=500)
    assert not draws.verdict.trustworthy
    assert any("Ctrl-C was pressed before" in warning for warning in draws.warnings)
    assert abs(draws.log_evidence) < 5 * draws.log_evidence_error + 0.05
    covered = name.startswith("looking")
    assert (posterior.report.process == "Direct") != covered
    assert (posterior.report.stopped == "interrupted") != covered


def test_ctrl_c_in_the_training_of_a_named_process_returns_it(monkeypatch, seen):
    interrupt_after(monkeypatch, 1)
    posterior = sampler(seen, process=FEW_STEPS).run(jax.random.key(0))
    assert posterior.report.process == "AnnealedLangevin"
    assert posterior.report.stopped == "interrupted"
    assert np.isfinite(posterior.sample(jax.random.key(1), num_samples=10).elbo)


def test_ctrl_c_in_the_training_of_a_kernel_ends_the_run_and_keeps_the_bridge(monkeypatch, seen):
    settings = vars(sampler(seen, process=FEW_STEPS))
    names = ("process", "explore", "charts", "num_iterations", "num_trajectories", "progress_bar")
    kernel = nb.BridgeKernel(TARGET, **{name: settings[name] for name in names})
    start = partial(kernel._posterior_for, (), {})  # with which `init` begins
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt, match="the next mcmc.run of this kernel samples"):
            start()
    trained = kernel.posterior
    assert start() is trained


def test_a_broken_optimiser_leaves_a_posterior_that_says_so(seen):
    posterior = sampler(seen, process=FEW_STEPS, optimizer=optax.sgd(float("nan"))).run(
        jax.random.key(0)
    )
    assert posterior.report.num_skipped_updates == 2 == posterior.report.num_iterations
    draws = posterior.sample(jax.random.key(1), num_samples=500)
    assert abs(draws.log_evidence) < 5 * draws.log_evidence_error + 0.05
    assert "2 of the 2 updates of the training were not finite" in draws.verdict.text
