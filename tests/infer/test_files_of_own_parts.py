"""Files of posteriors whose samplers, or parts of them, a user wrote outside the package."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.storage import load_header
from numpyro_bridge.atlas.maps import AbstractMap, identity_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.processes.initial import (
    AbstractInitialDistribution,
    InitialMixture,
    InitialNormal,
)
from numpyro_bridge.processes.kernels import Gaussian
from tests import catalogue

DIM = 2
KEY = jax.random.key(1)


def target() -> nb.target.Target:
    return nb.target_from_log_density(lambda x: -0.5 * jnp.sum((x - 0.3) ** 2), DIM)


# --- what a user writes ---------------------------------------------------------------------------


class OwnSampler(AbstractProcess[jax.Array]):
    """A random walk with a drift."""

    initial: AbstractInitialDistribution
    layers: tuple[jax.Array, dict[str, jax.Array]]
    log_scale: jax.Array
    activation: Callable = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(self, rng_key, dim, *, num_steps=4, initial=None, activation=jnp.tanh):
        self.initial = InitialNormal(dim) if initial is None else initial
        self.layers = (jax.random.normal(rng_key, (dim, dim)), {"bias": jnp.zeros(dim)})
        self.log_scale = jnp.full((num_steps, dim), -1.0, jnp.result_type(float))
        self.activation = activation
        self.num_steps = num_steps

    def start(self, target):
        return self.initial.kernel(target)

    def controls(self, step, point):
        weight, others = self.layers
        return self.activation(weight @ point.position + others["bias"])

    def forward(self, step, state, target):
        scale = jnp.exp(self.log_scale[step])
        return Gaussian(state.point.position + 0.1 * state.controls, scale, target)

    def backward(self, step, state, target):
        return Gaussian(state.point.position, jnp.exp(self.log_scale[step]), target)


class OtherSampler(OwnSampler):
    """The same under another name."""


class OwnControl(eqx.Module):
    """A linear drift."""

    weight: jax.Array
    gain: float = eqx.field(static=True, default=0.1)

    def __call__(self, time, position, score):
        return self.gain * time * (self.weight @ position + score)


def with_own_control(rng_key, dim, *, gain=0.1) -> nb.CMCD:
    control = OwnControl(jax.random.normal(rng_key, (dim, dim)), gain)
    return eqx.tree_at(lambda p: p.control, nb.CMCD(rng_key, dim, num_steps=4), control)


class OwnInitial(AbstractInitialDistribution):
    """A normal distribution of unit variance."""

    mean: jax.Array

    def kernel(self, target):
        return Gaussian(self.mean, jnp.ones_like(self.mean), target)

    def score(self, point):
        return self.mean - point.position


class OwnNetwork(eqx.Module):
    """A linear denoiser."""

    weight: jax.Array

    def __call__(self, noisy, log_snr, context=None):
        return self.weight @ noisy


def own_denoising(rng_key, dim, *, num_steps=4) -> nb.diffusion.DenoisingProcess:
    network = OwnNetwork(0.1 * jax.random.normal(rng_key, (dim, dim)))
    return nb.diffusion.DenoisingProcess(nb.diffusion.Denoiser(network), dim, num_steps=num_steps)


class OwnMap(AbstractMap):
    """A shift."""

    shift: jax.Array

    def __call__(self, standardised):
        return standardised + self.shift

    def inverse(self, position):
        return position - self.shift

    def log_det(self, standardised):
        return jnp.zeros((), standardised.dtype)


def own_map(dim: int) -> OwnMap:
    return OwnMap(jnp.zeros(dim, jnp.result_type(float)))


PROCESSES = {
    "OwnSampler": OwnSampler,
    "OwnControl": with_own_control,
    "OwnInitial": partial(nb.CMCD, num_steps=4, initial=OwnInitial(jnp.zeros(DIM))),
    "OwnNetwork": own_denoising,
    "OwnSampler in a wrapper": nb.objectives.with_log_evidence(OwnSampler, -3.0),
}
"""Constructors of processes that are foreign, as a whole or in part."""


# --- files ----------------------------------------------------------------------------------------


def posterior_of(process: AbstractProcess, own: AbstractMap | None = None) -> nb.Posterior:
    standardisation = nb.no_standardisation(jax.random.key(0), target())
    if own is not None:
        standardisation = standardisation._replace(map=own)
    return nb.Posterior(
        process=process,
        target=StandardisedTarget(target(), standardisation.map),
        standardisation=standardisation,
        metrics=None,
    )


def trained(name: str) -> AbstractProcess:
    """With other arrays than a constructor makes."""
    return catalogue.perturbed(jax.random.key(7), PROCESSES[name](jax.random.key(3), DIM))


def assert_same_draws(before: nb.Posterior, after: nb.Posterior) -> None:
    a, b = (posterior.sample(KEY, num_samples=20) for posterior in (before, after))
    np.testing.assert_array_equal(a.log_weight, b.log_weight)
    np.testing.assert_array_equal(a.position, b.position)


@pytest.mark.parametrize("name", PROCESSES)
def test_what_a_user_wrote_is_saved_and_loaded(name, tmp_path):
    path, process = tmp_path / "file", trained(name)
    posterior_of(process).save(path)
    loaded = nb.load(path, target(), process=PROCESSES[name])
    assert jax.tree.structure(loaded.process) == jax.tree.structure(process)
    assert_same_draws(loaded, posterior_of(process))
    foreign = name.split()[0]
    with pytest.raises(
        ValueError,
        match=f"{path}.*holds a {foreign}, which is not of numpyro_bridge: pass process=",
    ):
        nb.load(path, target())
    with pytest.raises(ValueError, match="in the file, and a DBS in what was passed"):
        nb.load(path, target(), process=nb.DBS)
    # A name is recorded, and not where it is: a file must not say what to import.
    header = str(load_header(path))
    assert f"'name': '{foreign}'" in header and __name__ not in header


SCRIPT = """
import sys
import numpy as np
import jax
jax.config.update("jax_enable_x64", True)
import numpyro_bridge as nb
from tests.infer import test_files_of_own_parts as own
folder = own.Path(sys.argv[1])
for number, (name, process) in enumerate(own.PROCESSES.items()):
    loaded = nb.load(folder / str(number), own.target(), process=process)
    draws = loaded.sample(own.KEY, num_samples=20)
    np.savez(folder / f"{number}.npz", position=draws.position, log_weight=draws.log_weight)
"""


def test_a_fresh_process_draws_the_same(tmp_path):
    for number, name in enumerate(PROCESSES):
        posterior_of(trained(name)).save(tmp_path / str(number))
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)]
    subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=True)
    for number, name in enumerate(PROCESSES):
        there = np.load(tmp_path / f"{number}.npz")
        here = posterior_of(trained(name)).sample(KEY, num_samples=20)
        np.testing.assert_allclose(there["position"], here.position, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(there["log_weight"], here.log_weight, rtol=1e-9, atol=1e-9)


def test_a_constructor_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "file"
    posterior_of(trained("OwnSampler")).save(path)
    for process, message in (
        (
            OtherSampler,
            "process is a OwnSampler in the file, and a OtherSampler in what was passed",
        ),
        (
            partial(OwnSampler, num_steps=8),
            r"process.log_scale is an array of shape \(4, 2\) .* shape \(8, 2\)",
        ),
        (partial(OwnSampler, activation=jnp.sin), "process.activation is a tanh in the file"),
        (nb.objectives.with_log_evidence(OwnSampler), "and a WithLogEvidence in what was passed"),
    ):
        with pytest.raises(ValueError, match=message):
            nb.load(path, target(), process=process)
    posterior_of(trained("OwnControl")).save(path)
    with pytest.raises(ValueError, match="process.control.gain is 0.1 in the file, and 0.2 in"):
        nb.load(path, target(), process=partial(with_own_control, gain=0.2))
    with pytest.raises(
        ValueError, match="process.control is a OwnControl in the file, and a Score"
    ):
        nb.load(path, target(), process=partial(nb.CMCD, num_steps=4))


def test_another_start_than_the_constructor_gives_is_kept(tmp_path):
    """A sampler that starts from several places does so when it is loaded, too."""
    factors = jnp.tile(0.5 * jnp.eye(DIM), (2, 1, 1))
    modes = InitialMixture(jnp.zeros(2), jnp.asarray([[1.0, 0.0], [-1.0, 0.0]]), factors)
    posterior = posterior_of(OwnSampler(jax.random.key(0), DIM, initial=modes))
    posterior.save(tmp_path / "file")
    loaded = nb.load(tmp_path / "file", target(), process=OwnSampler)
    assert isinstance(loaded.process, OwnSampler)
    assert isinstance(loaded.process.initial, InitialMixture)
    assert_same_draws(loaded, posterior)


def test_a_map_that_a_user_wrote_is_saved_and_loaded(tmp_path):
    path = tmp_path / "file"
    process = nb.CMCD(jax.random.key(0), DIM, num_steps=4)
    posterior = posterior_of(process, OwnMap(jnp.asarray([0.3, -0.2])))
    posterior.save(path)
    assert_same_draws(nb.load(path, target(), coordinate_map=own_map), posterior)
    with pytest.raises(ValueError, match="holds a OwnMap, .*pass coordinate_map="):
        nb.load(path, target())
    with pytest.raises(ValueError, match="coordinate_map is a OwnMap in the file"):
        nb.load(path, target(), coordinate_map=identity_map)


def test_an_own_sampler_is_loaded_into_the_present_precision(tmp_path):
    process = trained("OwnSampler")
    single = jax.tree.map(lambda x: x.astype(jnp.float32), process)
    posterior_of(single).save(tmp_path / "file")
    loaded = nb.load(tmp_path / "file", target(), process=OwnSampler)
    for back, array in zip(jax.tree.leaves(loaded.process), jax.tree.leaves(process), strict=True):
        assert back.dtype == array.dtype
        np.testing.assert_allclose(back, array, rtol=1e-6)


def test_a_random_key_is_not_saved(tmp_path):
    process = eqx.tree_at(lambda p: p.log_scale, trained("OwnSampler"), jax.random.key(0))
    with pytest.raises(ValueError, match=r"random keys cannot be saved; pass jax.random.key_data"):
        posterior_of(process).save(tmp_path / "file")
    assert not (tmp_path / "file").exists()
