"""Calls where they cannot work are refused in one sentence, at once."""

import json
import os
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge.target import target_from_model
from tests import faults, targets
from tests.compilations import listed_compilations

X, Y = (jnp.asarray(values) for values in targets.regression_data())
KEYS, SEVERAL = jax.random.split(jax.random.key(0), 3), jnp.stack([Y, Y, Y])


@pytest.fixture(scope="module")
def calls(posterior):
    """Each door as a function of a key and data, of which some take only one of them."""
    draws = posterior.sample(jax.random.key(1), num_samples=100)
    bridge = nb.BridgeSampler(targets.regression, progress_bar=False)
    diffusion = nb.DiffusionSampler(targets.regression, progress_bar=False)
    amortised: Any = object.__new__(nb.infer.AmortisedPosterior)  # what it holds is not looked at
    models = {"one": posterior, "two": posterior}
    return {
        "BridgeSampler.run": lambda key, y: bridge.run(key, X, y=y),
        "DiffusionSampler.run": lambda key, y: diffusion.run(key, X, y=y),
        "DiffusionSampler.amortise": lambda key, y: diffusion.amortise(key, X, y=y),
        "AmortisedPosterior.condition": lambda key, y: amortised.condition(X, y=y),
        "Posterior.sample": lambda key, y: posterior.sample(key),
        "Posterior.predictive": lambda key, y: posterior.predictive(key, y),
        "Posterior.run_backward": lambda key, y: posterior.run_backward(key, {"w": y}),
        "to_inference_data": lambda key, y: nb.to_inference_data(draws, rng_key=key),
        "compare_models": lambda key, y: nb.compare_models(models, rng_key=key),
        "compare_with_nuts": lambda key, y: nb.compare_with_nuts(posterior, key),
    }


def misplaced(where: str, call):
    """Call inside a transformation of JAX."""
    key = KEYS[0]
    return {
        "jit": lambda: jax.jit(call)(key, Y),
        "jit of what is known": lambda: jax.jit(lambda: call(key, Y))(),
        "vmap": lambda: jax.vmap(call)(KEYS, SEVERAL),
        "grad": lambda: jax.grad(call, argnums=1)(key, Y),
    }[where]


PLACES = [(name, where) for name, places in faults.DOORS.items() for where in places]


@pytest.mark.parametrize(("name", "where"), PLACES)
def test_a_call_inside_compiled_code_is_refused_at_once(calls, name, where):
    call = misplaced(where, calls[name])
    with listed_compilations() as compiled:
        with pytest.raises(ValueError, match=rf"^{name} cannot be called inside jax.jit, vmap or"):
            call()
    assert compiled == []


@pytest.mark.parametrize("transform", [jax.grad, jax.vmap])
def test_a_model_that_closes_over_traced_data_is_refused(transform):
    def run(y):
        def model():
            mean = numpyro.sample("mean", dist.Normal(0, 1))
            numpyro.sample("y", dist.Normal(mean, 1), obs=y)

        return nb.BridgeSampler(model, progress_bar=False).run(jax.random.key(0))

    with pytest.raises(ValueError, match="for many data sets write sampler.run_many"):
        transform(run)(Y)


def test_resampling_and_distributions_may_be_compiled(posterior):
    """What decides nothing by numbers works inside compiled code, and goes on to."""
    draws = posterior.sample(jax.random.key(1), num_samples=100)
    sites = jax.jit(lambda key: draws.resample(key, 7))(jax.random.key(0))
    np.testing.assert_array_equal(sites["w"], draws.resample(jax.random.key(0), 7)["w"])


def in_a_fork(work) -> Any:
    """What a function returns in a forked process, which has half a minute."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of what is done here on purpose
        child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    end = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.02)
    with os.fdopen(read, "rb") as answer:
        return json.loads(answer.read() or b"null")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
def test_calls_in_a_forked_process_are_refused_and_do_not_hang(calls):
    key = jax.random.key(0)

    def refusals():
        messages = {}
        for name, call in calls.items():
            try:
                call(key, Y)
            except RuntimeError as error:
                messages[name] = str(error)
        return messages

    messages = in_a_fork(refusals)
    assert messages is not None, "the forked process hangs"
    assert messages.keys() == faults.DOORS.keys()
    for name, message in messages.items():
        assert message.startswith(f"{name} was called in a process that was forked after JAX")
        assert "multiprocessing.get_context('spawn')" in message


def test_models_are_read_by_several_threads_at_once():
    """NumPyro keeps what handles the sites of all threads on one stack."""

    def read(number: int) -> set[str]:
        def model(y):
            mean = numpyro.sample(f"mean {number}", dist.Normal(0, 1 + number))
            numpyro.deterministic(f"twice {number}", 2 * mean)
            numpyro.sample(f"y {number}", dist.Normal(mean, 1), obs=y)

        target = target_from_model(jax.random.key(number), model, Y)
        expected = dist.Normal(0, 1 + number).log_prob(0.0) + dist.Normal().log_prob(Y).sum()
        np.testing.assert_allclose(target.log_density(jnp.zeros(1)), expected, rtol=1e-6)
        return {*target.sites, *target.observed, *target.constrain(jnp.zeros(1))}

    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(read, range(4)))
    assert names == [{f"mean {n}", f"twice {n}", f"y {n}"} for n in range(4)]
