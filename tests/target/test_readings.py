"""Data that a model reads from a global, a closure or an object are seen anew by every run."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, SVI, Trace_ELBO

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.target import target_from_model
from numpyro_bridge.target.readings import read
from tests.target.models import UNTRAINED
from tests.targets import normal_posterior

CONFIG = {"y": np.ones(5), "scale": 1.0}


def observe(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    numpyro.deterministic("shifted", mean + CONFIG["scale"])
    numpyro.sample("y", dist.Normal(mean, CONFIG["scale"]), obs=y)


def of_a_global():
    observe(CONFIG["y"])


class OfAnObject:
    """A model that reads its data from itself."""

    def __init__(self, y):
        self.y = y

    def __call__(self):
        observe(self.y)


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """What a test changes in the global is put back."""
    monkeypatch.setitem(CONFIG, "y", CONFIG["y"])
    monkeypatch.setitem(CONFIG, "scale", CONFIG["scale"])


@jax.jit
def log_density(target):
    return target.log_density(jnp.zeros(1))


def exact(y, scale=1.0):
    """The log joint density at a mean of zero."""
    normal = dist.Normal(0.0, scale).log_prob(y)
    return float(dist.Normal(0.0, 10.0).log_prob(0.0) + jnp.sum(normal))


def made(model):
    return target_from_model(jax.random.key(0), model)


def test_a_compiled_program_sees_a_global_change():
    first = made(of_a_global)
    np.testing.assert_allclose(log_density(first), exact(np.ones(5)), rtol=1e-6)
    CONFIG["y"] = np.full(5, 3.0)
    np.testing.assert_allclose(log_density(made(of_a_global)), exact(CONFIG["y"]), rtol=1e-6)
    CONFIG["scale"] = 2.0  # a number of Python, which is no array
    second = made(of_a_global)
    np.testing.assert_allclose(log_density(second), exact(CONFIG["y"], 2.0), rtol=1e-6)
    np.testing.assert_allclose(second.constrain(jnp.zeros(1))["shifted"], 2.0)


def test_a_compiled_program_sees_an_attribute_and_a_closure_change():
    model = OfAnObject(np.ones(5))
    np.testing.assert_allclose(log_density(made(model)), exact(np.ones(5)), rtol=1e-6)
    model.y = np.zeros(5)
    np.testing.assert_allclose(log_density(made(model)), exact(np.zeros(5)), rtol=1e-6)
    data = [np.ones(5)]

    def of_a_closure():
        observe(data[0])

    np.testing.assert_allclose(log_density(made(of_a_closure)), exact(np.ones(5)), rtol=1e-6)
    data[0] = np.full(5, 2.0)
    np.testing.assert_allclose(log_density(made(of_a_closure)), exact(data[0]), rtol=1e-6)


def test_the_same_data_use_the_same_program():
    first, second = made(of_a_global), made(of_a_global)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    CONFIG["y"] = CONFIG["y"].copy()
    assert jax.tree.structure(made(of_a_global)) == jax.tree.structure(first)


@pytest.mark.parametrize("change", ["y", "scale"])
def test_a_result_is_not_used_with_other_data_than_its_own(key, change):
    """Half of its programs would be those of the old data."""
    sampler = nb.BridgeSampler(of_a_global, **UNTRAINED)
    posterior = sampler.run(key)
    draws = posterior.sample(key, 12)
    CONFIG[change] = 2 * CONFIG[change]
    for use in (
        lambda: posterior.sample(key, 12),
        lambda: posterior.run_backward(key, draws.position),
        lambda: nb.to_inference_data(draws),
    ):
        with pytest.raises(ValueError, match="not among its arguments .* have changed"):
            use()


def exactly(rng_key, target):
    """The posterior is normal: in these coordinates a bridge that is hardly trained will do."""
    mean, covariance = normal_posterior(target)
    return nb.atlas.Standardisation(DenseMap(mean, jnp.linalg.cholesky(covariance)))


@pytest.mark.slow
def test_a_kernel_is_trained_anew_and_a_guide_refuses_where_a_global_changed(key):
    kernel = nb.BridgeKernel(of_a_global, **UNTRAINED | {"standardise": exactly})
    for shift in (1.0, 4.0):
        CONFIG["y"] = np.full(5, shift)
        mcmc = MCMC(kernel, num_warmup=2, num_samples=200, progress_bar=False)
        mcmc.run(key)
        mean = mcmc.get_samples()["mean"]
        assert abs(jnp.mean(mean) - shift * 5 / 5.01) < 4 * 0.45 / np.sqrt(200)
    guide = nb.AutoBridge(of_a_global, standardise=nb.no_standardisation)
    svi = SVI(of_a_global, guide, nb.bridge_optimizer(), Trace_ELBO())
    svi.init(key)
    CONFIG["y"] = np.zeros(5)
    with pytest.raises(ValueError, match="made for other data"):
        SVI(of_a_global, guide, nb.bridge_optimizer(), Trace_ELBO()).init(key)


@pytest.mark.parametrize("kind", ["model", "log density"])
def test_an_array_of_64_bits_that_changes_in_place_is_seen_anew(kind):
    """JAX rounds it once, and would go on with its copy."""
    y = np.array([1.0, 2.0, 3.0])

    def model():
        mean = numpyro.sample("mean", dist.Normal())
        numpyro.sample("y", dist.Normal(mean), obs=y)

    def made():
        if kind == "model":
            return target_from_model(jax.random.key(0), model)
        return nb.target_from_log_density(lambda x: -0.5 * jnp.sum((y - x[0]) ** 2), 1)

    with jax.enable_x64(False):
        place = jnp.zeros(1)
        first = made()
        before = float(jax.jit(lambda t, x: t.log_density(x))(first, place))
        y[:] = [5.0, 2.0, 3.0]
        assert not first.reads_as_before()
        after = float(jax.jit(lambda t, x: t.log_density(x))(made(), place))
    assert after == pytest.approx(before - 0.5 * (5.0**2 - 1.0**2), abs=1e-4)


def test_readings_tell_numbers_apart():
    def times(factor):
        return lambda x: jax.jit(lambda x: x * factor)(x)

    one, same, other = (read(times(jnp.asarray(f)), jnp.ones(3)) for f in (0.1, 0.1, 0.1000001))
    assert one == same
    assert one.numbers != other.numbers and one.code != other.code
    squared = read(lambda x: x**2, jnp.ones(3))
    assert squared.code not in (one.code, other.code)


@jax.custom_vjp
def root(x):
    """A square root by a loop that ends when it is near enough."""

    def step(state):
        _, guess = state
        return guess, 0.5 * (guess + x / guess)

    return jax.lax.while_loop(lambda s: jnp.abs(s[0] - s[1]) > 1e-9, step, (x, 0.5 + 0.5 * x))[1]


def _root_forward(x):
    value = root(x)
    return value, value


def _root_backward(value, cotangent):
    return (0.5 * cotangent / value,)


root.defvjp(_root_forward, _root_backward)


def test_loops_whose_end_depends_on_numbers_are_seen():
    def by_solver(y=None):
        scale = numpyro.sample("scale", dist.LogNormal())
        numpyro.sample("y", dist.Normal(0.0, root(scale)), obs=y)

    def by_scan(y=None):
        scale = numpyro.sample("scale", dist.LogNormal())
        total, _ = jax.lax.scan(lambda s, _: (0.5 * (s + scale / s), None), scale, length=5)
        numpyro.sample("y", dist.Normal(0.0, total), obs=y)

    loops = [target_from_model(jax.random.key(0), m, y=1.0).has_loops for m in (by_solver, by_scan)]
    assert loops == [True, False]
    assert nb.target_from_log_density(lambda x: -root(1 + x[0] ** 2), 1).has_loops
    assert not nb.target_from_log_density(lambda x: -(x[0] ** 2), 1).has_loops
