"""Samplers and what they return travel in pickles, and as copies."""

import copy
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import numpyro_bridge as nb
from numpyro_bridge.training.remade import Remade
from tests import targets
from tests.infer.trained import TINY, assert_same_draws

COPIES = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "copy": copy.deepcopy}


def make_target():
    """A target that is not from a model, as a module-level function makes it."""
    return nb.target_from_log_density(log_density, 1)


def log_density(x):
    return -0.5 * x @ x


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_posterior_and_its_draws_stay_the_same(posterior, copied):
    draws = posterior.sample(jax.random.key(1), num_samples=100)
    again = copied(posterior)
    assert_same_draws(again.sample(jax.random.key(1), num_samples=100), draws)
    assert again.report == posterior.report and repr(again) == repr(posterior)
    same = copied(draws)
    assert_same_draws(same, draws)
    assert same.verdict == draws.verdict and same.log_evidence == draws.log_evidence
    resampled = [one.resample(jax.random.key(2), 5)["w"] for one in (draws, same)]
    np.testing.assert_array_equal(*resampled)


SAMPLERS = {
    "default": nb.BridgeSampler(targets.regression),
    "settings": nb.BridgeSampler(targets.regression, **TINY),
    "rates": nb.BridgeSampler(
        targets.regression,
        process=partial(nb.CMCD, num_steps=8),
        optimizer=nb.bridge_optimizer(1e-3, max_norm=2.0),
        curriculum=nb.Tempering(),
        objective=partial(nb.reverse_kl_ld, sampling=nb.objectives.widened),
    ),
    "target": nb.BridgeSampler(make_target()),
    "diffusion": nb.DiffusionSampler(targets.regression),
    "kernel": nb.BridgeKernel(targets.regression),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_keeps_its_settings(name, copied):
    before, after = (vars(one) for one in (SAMPLERS[name], copied(SAMPLERS[name])))
    assert before.keys() == after.keys()
    for setting, value in before.items():
        same = type(value) is type(after[setting])
        plain = isinstance(value, int | float | str | None)
        assert same and (value == after[setting] if plain else True), setting
    if "optimizer" in before:
        assert after["optimizer"] is before["optimizer"]  # so that nothing is compiled for it


def test_an_optimiser_from_a_pickle_is_made_with_the_same_rates():
    made = nb.bridge_optimizer(3e-3, annealing=7e-3)
    assert isinstance(made, Remade)
    assert pickle.loads(pickle.dumps(made)) is made is not nb.bridge_optimizer()


def test_what_cannot_be_pickled_is_named():
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(nb.BridgeSampler(lambda: None))
    with pytest.raises((AttributeError, pickle.PicklingError), match="init_fn|_local_|chain"):
        pickle.dumps(nb.BridgeSampler(targets.regression, optimizer=optax.adam(1e-3)))


def test_a_posterior_travels_to_another_process(posterior, tmp_path):
    """As `multiprocessing` with spawn and joblib send it."""
    (tmp_path / "sent").write_bytes(pickle.dumps(posterior))
    code = (
        "import pickle, sys; from tests import conftest; import jax\n"
        "folder = sys.argv[1]\n"
        "posterior = pickle.load(open(folder + '/sent', 'rb'))\n"
        "draws = posterior.sample(jax.random.key(1), num_samples=50)\n"
        "pickle.dump(draws, open(folder + '/received', 'wb'))\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=root)
    received = pickle.loads((tmp_path / "received").read_bytes())
    assert_same_draws(received, posterior.sample(jax.random.key(1), num_samples=50))
