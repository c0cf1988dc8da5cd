"""The benchmark targets: a NumPyro model, its data, and the reference to compare with."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist


@dataclass(frozen=True)
class Reference:
    """What is known about a posterior: log evidence in nats, and moments of each site."""

    log_evidence: float
    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    log_evidence_error: float = 0.0
    """Standard error; zero where a quadrature is exact to more digits than are shown."""


@dataclass(frozen=True)
class Benchmark:
    """A model with its data held as arguments."""

    name: str
    model: Callable[..., Any]
    kwargs: dict[str, Any]
    reference: Reference


def eight_schools(sigma, y=None):
    """Rubin (1981), non-centred."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", sigma.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def seeds(x1, x2, n, r=None):
    """Random-effects logistic regression of germination counts, Crowder (1978)."""
    tau = numpyro.sample("tau", dist.Gamma(0.01, 0.01))
    a_0 = numpyro.sample("a_0", dist.Normal(0, 10))
    a_1 = numpyro.sample("a_1", dist.Normal(0, 10))
    a_2 = numpyro.sample("a_2", dist.Normal(0, 10))
    a_12 = numpyro.sample("a_12", dist.Normal(0, 10))
    with numpyro.plate("plate", x1.shape[0]):
        b = numpyro.sample("b", dist.Normal(0, 1 / jnp.sqrt(tau)))
        logits = a_0 + a_1 * x1 + a_2 * x2 + a_12 * x1 * x2 + b
        numpyro.sample("germinated", dist.Binomial(n, logits=logits), obs=r)


def logistic_regression(X, y=None, prior_scale=1.0, sign=1.0):
    """Bernoulli responses, `P(y = 1) = sigmoid(sign · X w)`, independent normal prior."""
    w = numpyro.sample("w", dist.Normal(0, prior_scale).expand([X.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=sign * (X @ w)), obs=y)


def brownian(observed_locs):
    """A noisy random walk of 30 steps whose middle ten observations are missing."""
    innovation = numpyro.sample("innovation_noise_scale", dist.LogNormal(0, 2))
    observation = numpyro.sample("observation_noise_scale", dist.LogNormal(0, 2))
    locs = numpyro.sample(
        "locs", dist.GaussianRandomWalk(innovation, num_steps=observed_locs.shape[0])
    )
    seen = ~jnp.isnan(observed_locs)
    with numpyro.handlers.mask(mask=seen):
        filled = jnp.where(seen, observed_locs, 0.0)
        numpyro.sample("observed_locs", dist.Normal(locs, observation), obs=filled)


def load(name: str, data: Path) -> Benchmark:
    """Read one benchmark from the data folder.

    Raises:
        ValueError: if `name` is not in `NAMES`.
    """
    if name not in _LOADERS:
        raise ValueError(f"no benchmark {name!r}; choose from {', '.join(NAMES)}")
    model, kwargs, reference = _LOADERS[name](data)
    return Benchmark(name, model, kwargs, reference)


def _sites(data: Path, key: str) -> Reference:
    entry = json.loads((data / "benchmark_reference.json").read_text())[key]
    sites = entry["sites"]
    return Reference(
        entry["log_Z"],
        {name: np.asarray(site["mean"]) for name, site in sites.items()},
        {name: np.asarray(site["sd"]) for name, site in sites.items()},
        entry["log_Z_se"],
    )


def _with_intercept(X):
    return np.concatenate([np.ones((len(X), 1)), X], axis=1).astype(np.float32)


def _load_eight_schools(data: Path):
    case = data / "posteriordb" / "eight_schools-eight_schools_noncentered.json"
    case = json.loads(case.read_text())
    reference = case["reference"]
    mean, sd = np.asarray(reference["mean"]), np.asarray(reference["sd"])
    kwargs = {name: np.asarray(case["data"][name], np.float32) for name in ("sigma", "y")}
    names = {"theta": slice(0, 8), "mu": 8, "tau": 9}
    mean, sd = ({name: x[index] for name, index in names.items()} for x in (mean, sd))
    # The evidence is a two-dimensional quadrature over mu and log tau, the effects integrated out.
    return eight_schools, kwargs, Reference(eight_schools_evidence(**kwargs), mean, sd)


def eight_schools_evidence(sigma, y) -> float:
    """The log evidence by quadrature over log tau; mu and the effects in closed form."""
    log_tau = np.linspace(-14.0, 9.0, 6001)[:, None]
    variance = np.square(sigma, dtype=float) + np.exp(2 * log_tau)
    precision = 1 / 25 + np.sum(1 / variance, 1)
    mean = np.sum(y / variance, 1) / precision
    log_likelihood = -0.5 * (
        np.sum(np.log(2 * np.pi * variance) + y**2 / variance, 1)
        + np.log(25 * precision)
        - precision * mean**2
    )
    tau = np.exp(log_tau[:, 0])
    log_prior = np.log(2 / (5 * np.pi)) - np.log1p((tau / 5) ** 2) + log_tau[:, 0]
    step = log_tau[1, 0] - log_tau[0, 0]
    return float(np.log(np.sum(np.exp(log_likelihood + log_prior)) * step))


def _load_seeds(data: Path):
    arrays = np.load(data / "seeds.npz")
    kwargs = {name: np.asarray(arrays[name], np.float32) for name in ("r", "n", "x1", "x2")}
    return seeds, kwargs, _sites(data, "seeds")


def _load_scaled_logistic(name: str):
    def load_one(data: Path):
        arrays = np.load(data / f"{name}.npz")
        X, y = arrays["X"].astype(float), arrays["y"].astype(np.float32)
        scale = X.std(0)
        X = (X - X.mean(0)) / np.where(scale == 0, 1.0, scale)
        kwargs = {"X": _with_intercept(X), "y": y}
        return logistic_regression, kwargs, _sites(data, name)

    return load_one


def _load_german_credit(data: Path):
    arrays = np.load(data / "german_credit.npz")
    X, y = arrays["X"].astype(float), arrays["y"].astype(np.float32)
    kwargs = {"X": _with_intercept(X / X.std(0)), "y": y, "prior_scale": 10.0, "sign": -1.0}
    return logistic_regression, kwargs, _sites(data, "german_credit")


def _load_brownian(data: Path):
    arrays = np.load(data / "brownian.npz")
    names = ("innovation_noise_scale", "observation_noise_scale", "locs")
    mean, sd = ({k: arrays[f"exact_{k}_{moment}"] for k in names} for moment in ("mean", "sd"))
    kwargs = {"observed_locs": arrays["observed_locs"].astype(np.float32)}
    return brownian, kwargs, Reference(float(arrays["exact_log_Z"]), mean, sd)


_LOADERS = {
    "eight_schools": _load_eight_schools,
    "seeds": _load_seeds,
    "sonar": _load_scaled_logistic("sonar"),
    "ionosphere": _load_scaled_logistic("ionosphere"),
    "german_credit": _load_german_credit,
    "brownian": _load_brownian,
}

NAMES = tuple(_LOADERS)
