"""What `benchmarks.scale` measures: one function for each way in which a problem can grow.

Each takes the size and returns what it found; the process in which it runs is fresh.
"""

import json
import socket
import subprocess
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb

NUM_COVARIATES = 20
LARGE_SITE = 10_000
"""Values of the deterministic site that is not kept."""


# --- rows -----------------------------------------------------------------------------------------


def logistic(x, y=None):
    """A logistic regression."""
    slopes = numpyro.sample("slopes", dist.Normal().expand([NUM_COVARIATES]).to_event(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=x @ slopes), obs=y)


def rows(num: int) -> dict[str, Any]:
    """The defaults on a logistic regression of so many rows; the evidence against a reference."""
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=NUM_COVARIATES)
    x = rng.normal(size=(num, NUM_COVARIATES)).astype(np.float32)
    y = (rng.random(num) < 1 / (1 + np.exp(-x @ slopes))).astype(np.int32)
    found = _defaults(logistic, x, y)
    return found | {"evidence_off": found["log_evidence"] - _reference(x, y)}


def _reference(x: np.ndarray, y: np.ndarray, num_draws: int = 500) -> float:
    """The log evidence by importance sampling from Laplace's normal distribution, in 64 bits.

    The density is a product of so many factors that it is nearly normal: with a thousand rows the
    standard error is 0.01 nats, and less with more rows.
    """
    place = np.zeros(x.shape[1])
    for _ in range(30):
        share = 1 / (1 + np.exp(-(x @ place)))
        curvature = np.eye(len(place)) + (x * (share * (1 - share))[:, None]).T @ x
        place = place + np.linalg.solve(curvature, x.T @ (y - share) - place)
    factor = np.linalg.cholesky(np.linalg.inv(curvature))
    noise = np.random.default_rng(1).normal(size=(num_draws, len(place)))
    log_weight = [_log_joint(x, y, place + factor @ one) + 0.5 * one @ one for one in noise]
    log_det = np.sum(np.log(np.diagonal(factor)))
    return float(np.logaddexp.reduce(log_weight) - np.log(num_draws) + log_det)


def _log_joint(x: np.ndarray, y: np.ndarray, slopes: np.ndarray) -> float:
    """Without the constant of the normal prior, which that of the proposal cancels."""
    logits = np.asarray(x @ slopes, float)
    return float(np.sum(y * logits - np.logaddexp(0, logits)) - 0.5 * slopes @ slopes)


# --- dimensions -----------------------------------------------------------------------------------


def counts_model(y):
    """Poisson counts whose log rates have a common mean and spread, non-centred."""
    mean = numpyro.sample("mean", dist.Normal(1.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(0.5))
    with numpyro.plate("groups", len(y)):
        effect = numpyro.sample("effect", dist.Normal())
        numpyro.sample("y", dist.Poisson(jnp.exp(mean + spread * effect)), obs=y)


def dimensions(num: int) -> dict[str, Any]:
    """The defaults on a hierarchy of so many dimensions, with one count for each group."""
    rng = np.random.default_rng(0)
    y = rng.poisson(np.exp(1.0 + 0.5 * rng.normal(size=num - 2)))
    return _defaults(counts_model, y)


# --- charts ---------------------------------------------------------------------------------------


def charts(num: int) -> dict[str, Any]:
    """The defaults on so many normal modes in five dimensions, of which the evidence is known."""
    places = 8.0 * jax.random.normal(jax.random.key(7), (num, 5))

    def log_density(x):
        squares = jnp.sum((x - places) ** 2, axis=1)
        return jax.scipy.special.logsumexp(-0.5 * squares) - np.log(num)

    found = _defaults(nb.target_from_log_density(log_density, 5))
    return found | {"evidence_off": found["log_evidence"] - 2.5 * np.log(2 * np.pi)}


# --- trajectories, draws, devices and processes ---------------------------------------------------


def trajectories(num: int) -> dict[str, Any]:
    """Seconds of twenty training iterations with so many trajectories of 32 steps."""
    sampler = partial(
        nb.BridgeSampler,
        nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2) - 0.1 * jnp.sum(x**4), 10),
        process=partial(nb.CMCD, num_steps=32),
        standardise=nb.no_standardisation,
        num_trajectories=num,
        progress_bar=False,
    )
    posterior = sampler(num_iterations=20).run(jax.random.key(0))
    return {"seconds": posterior.report.seconds.train}


def with_large_site(x, y=None):
    """A regression with a deterministic site of many values."""
    slopes = jnp.asarray(numpyro.sample("slopes", dist.Normal().expand([3]).to_event(1)))
    numpyro.deterministic("curve", jnp.sin(slopes[0] * jnp.linspace(0, 1, LARGE_SITE)) + slopes[1])
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(x @ slopes, 1.0), obs=y)


def draws(num: int) -> dict[str, Any]:
    """Seconds of so many draws of a model whose large site is not kept."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    posterior = nb.BridgeSampler(with_large_site, progress_bar=False).run(
        jax.random.key(0), x, x.sum(axis=1) + rng.normal(size=30)
    )
    start = time.perf_counter()
    found = posterior.sample(jax.random.key(1), num, exclude=["curve"])
    trusted = found.verdict.trustworthy
    return {"seconds": time.perf_counter() - start, "ess": found.ess, "trusted": trusted}


def devices(num: int) -> dict[str, Any]:
    """Seconds of 16,000 draws, with 64 steps each, on so many devices, once all is compiled."""
    return drawn_on(jax.devices()[:num])


def drawn_on(some: list[Any]) -> dict[str, Any]:
    """Seconds of 16,000 draws, with 64 steps each, on some devices, once all is compiled.

    `evidence_off` is the difference to the log evidence of the same draws on one device.
    """
    target = nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2) - 0.1 * jnp.sum(x**4), 50)
    posterior = nb.BridgeSampler(
        target,
        process=partial(nb.UHA, num_steps=64),
        standardise=nb.no_standardisation,
        num_iterations=1,
        num_trajectories=8,
        progress_bar=False,
    ).run(jax.random.key(0))
    alone = posterior.sample(jax.random.key(1), 16_000)
    posterior.sample(jax.random.key(2), 1_000, devices=some)
    start = time.perf_counter()
    found = posterior.sample(jax.random.key(1), 16_000, devices=some)
    return {
        "seconds": time.perf_counter() - start,
        "log_evidence": found.log_evidence,
        "log_evidence_error": found.log_evidence_error,
        "evidence_off": found.log_evidence - alone.log_evidence,
        "ess": found.ess,
    }


def processes(num: int) -> dict[str, Any]:
    """The same on the only device of each of so many processes, which divide the draws."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.scale_process", str(port), str(num)]
    started = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(num)
    ]
    said = [one.communicate()[0].splitlines() for one in started]
    if any(one.returncode for one in started):
        raise RuntimeError("a process failed")
    return json.loads(said[0][-1])


def _defaults(model: Any, *args: Any) -> dict[str, Any]:
    """Seconds of a default run with 4,000 draws, compilation included."""
    start = time.perf_counter()
    posterior = nb.BridgeSampler(model, progress_bar=False).run(jax.random.key(0), *args)
    found = posterior.sample(jax.random.key(1), 4_000)
    trusted = found.verdict.trustworthy
    return {
        "seconds": time.perf_counter() - start,
        "log_evidence": found.log_evidence,
        "log_evidence_error": found.log_evidence_error,
        "ess": found.ess,
        "trusted": trusted,
        "charts": found.num_charts,
        "gradients": posterior.report.num_gradient_evaluations,
    }
