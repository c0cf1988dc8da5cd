"""Training survives broken optimisers, and kills, after which it is resumed exactly."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from numpyro_bridge._core import writing
from numpyro_bridge._core.storage import load_header
from tests import faults
from tests.hill import TOP, Hill, assert_same, climb, fit
from tests.training import killed_run


@pytest.mark.parametrize("name", faults.BROKEN_OPTIMIZERS)
def test_updates_of_a_broken_optimiser_are_skipped_and_counted(name):
    optimizer, num_good = faults.BROKEN_OPTIMIZERS[name]
    hill = Hill()
    training = fit(jax.random.key(0), hill, climb, TOP, optimizer=optimizer, num_iterations=100)
    assert training.num_iterations == 100 and training.stopped == "budget"
    assert training.num_skipped == 100 - num_good
    np.testing.assert_array_equal(training.metrics.skipped[num_good:], 1.0)
    if num_good == 0:
        assert_same(training.module, hill)
        return
    good = fit(jax.random.key(0), hill, climb, TOP, optimizer=optax.sgd(0.05), num_iterations=100)
    assert np.all(np.isfinite(training.module.position))
    distance = jnp.linalg.norm(training.module.position - TOP)
    assert distance < 0.3 * jnp.linalg.norm(TOP)
    np.testing.assert_allclose(training.metrics.elbo[:40], good.metrics.elbo[:40], atol=1e-9)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder with the checkpoints of trainings that were killed."""
    folder = tmp_path_factory.mktemp("killed")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.training.killed_run", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=120)
    assert run.stdout.splitlines() == [f"{moment} 9" for moment in faults.KILLS], run.stderr
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training that nobody killed."""
    return killed_run.train(tmp_path_factory.mktemp("whole") / "checkpoint")


@pytest.mark.parametrize("moment", faults.KILLS)
def test_a_training_that_was_killed_is_resumed_exactly(killed, whole, moment):
    path = killed / str(faults.KILLS.index(moment))
    if moment == "before the first checkpoint":
        assert not path.exists()
    else:
        assert 0 < load_header(path)["num_done"] < killed_run.NUM_ITERATIONS
    resumed = killed_run.train(path)
    assert_same(resumed.module, whole.module)
    assert_same(resumed.metrics, whole.metrics)
    # What was half written is gone.
    assert not list(killed.glob(f"{writing._prefix(path)}*"))
