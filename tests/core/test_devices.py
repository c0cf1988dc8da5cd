"""Several devices: the same numbers, and each device a share of the work."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import numpyro_bridge as nb
from numpyro_bridge._core.devices import copy_to, divide, divided_among, mesh_of, num_shares
from numpyro_bridge.infer import drawing
from tests import targets
from tests.catalogue import narrow


def sampler_on(devices, num_trajectories=16, **settings):
    return nb.BridgeSampler(
        targets.skewed().target,
        process=partial(nb.CMCD, num_steps=2, control=narrow(4)),
        standardise=nb.no_standardisation,
        num_iterations=30,
        num_trajectories=num_trajectories,
        devices=devices,
        progress_bar=False,
        **settings,
    )


@pytest.mark.slow
def test_trajectories_are_divided_among_devices_and_the_numbers_are_those_of_one():
    devices = jax.devices()
    assert len(devices) == 2
    alone, shared = (sampler_on(on).run(jax.random.key(0)) for on in (None, devices))
    np.testing.assert_allclose(shared.metrics.elbo, alone.metrics.elbo, rtol=1e-8)
    draws = alone.sample(jax.random.key(1), 100)
    again = shared.sample(jax.random.key(1), 100, devices=devices)
    np.testing.assert_allclose(again.log_weight, draws.log_weight, rtol=1e-6, atol=1e-6)
    # What was trained on both is bound to neither.
    for leaf in jax.tree.leaves(eqx.filter(shared.process, eqx.is_array)):
        assert leaf.sharding == jnp.zeros(1).sharding


def test_each_device_holds_its_share_of_the_batch():
    devices = jax.devices()
    mesh = mesh_of(devices, None)

    @jax.jit
    def batch(key):
        with divided_among(mesh):
            return divide(jax.random.split(key, 16))

    shards = batch(copy_to(mesh, jax.random.key(0))).addressable_shards
    assert [shard.data.shape for shard in shards] == [(8,), (8,)]
    assert {shard.device for shard in shards} == set(devices)


def test_draws_need_not_divide_evenly_among_devices(monkeypatch):
    """The last key is repeated, and its further draws are dropped."""
    monkeypatch.setattr(drawing, "BATCHES", (25,))
    posterior = sampler_on(None).run(jax.random.key(0))
    alone = posterior.sample(jax.random.key(1), 50)
    shared = posterior.sample(jax.random.key(1), 50, devices=jax.devices())
    np.testing.assert_allclose(shared.position, alone.position, rtol=1e-6)
    assert shared.report.num_gradient_evaluations == alone.report.num_gradient_evaluations


@pytest.mark.slow
def test_a_mesh_divides_trajectories_along_one_axis_and_leaves_the_other_to_data():
    devices = np.array(jax.devices())
    along = Mesh(devices.reshape(1, 2), ("rows", "trajectories"))
    across = jax.make_mesh((2, 1), ("rows", "trajectories"))  # axes of any kind
    whole = Mesh(devices.reshape(1, 2), ("here", "there"))
    shares = [num_shares(mesh_of(None, mesh)) for mesh in (along, across, whole)]
    assert shares == [2, 1, 2]
    rows = jax.device_put(jnp.arange(4.0), NamedSharding(across, PartitionSpec("rows")))
    placed, other = copy_to(mesh_of(None, across), (rows, jnp.ones(3)))
    assert not placed.is_fully_replicated and other.is_fully_replicated

    alone, shared = (
        sampler_on(None, mesh=mesh).run(jax.random.key(0)).sample(jax.random.key(1), 100, mesh=mesh)
        for mesh in (None, along)
    )
    np.testing.assert_allclose(shared.log_weight, alone.log_weight, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_posterior_of_divided_rows_is_that_of_whole_ones():
    def line(x, y):
        slope = numpyro.sample("slope", dist.Normal())
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    x, y = np.random.default_rng(0).normal(size=(2, 64))
    mesh = jax.make_mesh((1, 2), ("trajectories", "rows"))
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    process = partial(nb.CMCD, num_steps=2, control=narrow(4))
    settings = {"process": process, "num_iterations": 20, "num_trajectories": 16}
    found = []
    for data, on in (((x, y), None), (jax.device_put((x, y), rows), mesh)):
        sampler = nb.BridgeSampler(line, mesh=on, progress_bar=False, **settings)
        posterior = sampler.run(jax.random.key(0), *data)
        found.append(posterior.sample(jax.random.key(1), 100, mesh=on))
    whole, divided = found
    np.testing.assert_allclose(divided.log_evidence, whole.log_evidence, rtol=1e-8)
    np.testing.assert_allclose(divided.position, whole.position, rtol=1e-5, atol=1e-8)


@pytest.mark.fast
def test_devices_and_a_mesh_exclude_each_other():
    mesh = jax.make_mesh((2,), ("trajectories",))
    with pytest.raises(ValueError, match="either devices= or mesh="):
        mesh_of(jax.devices(), mesh)


@pytest.mark.fast
def test_a_device_is_given_once():
    with pytest.raises(ValueError, match="names a device twice"):
        mesh_of(jax.devices()[:1] * 2, None)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="num_trajectories=15 cannot be divided evenly among 2"):
        sampler_on(jax.devices(), num_trajectories=15)
    with pytest.raises(ValueError, match="a list such as jax.devices"):
        sampler_on([])


def test_data_that_the_user_has_divided_stay_divided():
    """The likelihood is summed across devices, and the density is that of one device."""

    def line(x, y):
        slope = numpyro.sample("slope", dist.Normal())
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    x, y = np.random.default_rng(0).normal(size=(2, 64))
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
    divided = jax.device_put(jnp.asarray(x), rows), jax.device_put(jnp.asarray(y), rows)
    targets_of = [
        nb.target_from_model(jax.random.key(0), line, *each) for each in (divided, (x, y))
    ]
    assert all(array.sharding == rows for array in targets_of[0].arrays)
    many = jnp.linspace(-1, 1, 6)[:, None]

    @eqx.filter_jit
    def evaluated(target):
        return jax.vmap(jax.value_and_grad(target.log_density))(many)

    values = [evaluated(target) for target in targets_of]
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-12)
    np.testing.assert_allclose(values[0][1], values[1][1], rtol=1e-10)
