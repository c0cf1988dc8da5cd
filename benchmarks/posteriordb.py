"""Two posteriors of posteriordb with evidences that quadrature gives."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from benchmarks.targets import Benchmark, Reference


def autoregression(past, y=None):
    """An autoregression of fifth order: `arK`."""
    alpha = numpyro.sample("alpha", dist.Normal(0, 10))
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([past.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(alpha + past @ beta, sigma), obs=y)


def gaussian_process(x, y=None):
    """Regression by a Gaussian process; `sigma` is a variance: `gp_regr`."""
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    covariance = alpha**2 * jnp.exp(-((x[:, None] - x) ** 2) / (2 * rho**2))
    covariance = covariance + sigma * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance), obs=y)


def load(name: str, data: Path) -> Benchmark:
    """Read "arK" or "gp_regr" from the data folder."""
    return {"arK": _load_autoregression, "gp_regr": _load_gaussian_process}[name](data)


def _case(data: Path, name: str) -> dict:
    return json.loads((data / "posteriordb" / f"{name}.json").read_text())


def _load_autoregression(data: Path) -> Benchmark:
    case = _case(data, "arK-arK")
    order, y = case["data"]["K"], np.asarray(case["data"]["y"])
    past = np.stack([y[order - lag : len(y) - lag] for lag in range(1, order + 1)], axis=1)
    present = y[order:]
    names = {"alpha": 0, "beta": slice(1, 1 + order), "sigma": 1 + order}
    evidence = _regression_evidence(np.column_stack([np.ones(len(past)), past]), present)
    kwargs = {"past": past.astype(np.float32), "y": present.astype(np.float32)}
    return Benchmark("arK", autoregression, kwargs, _reference(case, names, evidence))


def _regression_evidence(design, y) -> float:
    """Coefficients in closed form, log sigma by quadrature."""
    log_sigma = np.linspace(-4.0, 3.0, 4001)
    values, vectors = np.linalg.eigh(design.T @ design)
    projected = vectors.T @ (design.T @ y)
    sigma2 = np.exp(2 * log_sigma)[:, None]
    precision = 0.01 + values / sigma2
    quadratic = y @ y / sigma2[:, 0] - np.sum((projected / sigma2) ** 2 / precision, axis=1)
    log_det = np.sum(np.log(100 * precision), axis=1) + len(y) * np.log(2 * np.pi * sigma2[:, 0])
    prior = np.log(2 / (np.pi * 2.5)) - np.log1p(sigma2[:, 0] / 2.5**2) + log_sigma
    log_joint = -0.5 * (quadratic + log_det) + prior
    top = np.max(log_joint)
    return float(top + np.log(np.sum(np.exp(log_joint - top)) * (log_sigma[1] - log_sigma[0])))


def _load_gaussian_process(data: Path) -> Benchmark:
    case = _case(data, "gp_pois_regr-gp_regr")
    x, y = (np.asarray(case["data"][name], float) for name in ("x", "y"))
    names = {"rho": 0, "alpha": 1, "sigma": 2}
    kwargs = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
    reference = _reference(case, names, _process_evidence(x, y))
    return Benchmark("gp_regr", gaussian_process, kwargs, reference)


def _process_evidence(x, y) -> float:
    """All three parameters by quadrature, on their own scales."""
    grids = [(np.arange(80) + 0.5) * top / 80 for top in (16.0, 10.0, 6.0)]
    rho, alpha, sigma = np.meshgrid(*grids, indexing="ij")
    log_prior = 25 * np.log(4) - np.sum(np.log(np.arange(1, 25))) + 24 * np.log(rho) - 4 * rho
    log_prior += 0.5 * np.log(2 / (np.pi * 4)) - alpha**2 / 8
    log_prior += 0.5 * np.log(2 / np.pi) - sigma**2 / 2
    values, vectors = np.linalg.eigh(
        np.exp(-((x[:, None] - x) ** 2) / (2 * grids[0][:, None, None] ** 2))
    )
    projected = np.einsum("rij,i->rj", vectors, y)[:, None, None]
    variance = alpha[..., None] ** 2 * values[:, None, None] + sigma[..., None]
    log_likelihood = -0.5 * np.sum(projected**2 / variance + np.log(2 * np.pi * variance), axis=-1)
    log_joint = log_prior + log_likelihood
    cell = np.prod([grid[1] - grid[0] for grid in grids])
    top = np.max(log_joint)
    return float(top + np.log(np.sum(np.exp(log_joint - top)) * cell))


def _reference(case: dict, names: dict, log_evidence: float) -> Reference:
    mean, sd = (np.asarray(case["reference"][moment]) for moment in ("mean", "sd"))
    moments = [{name: values[index] for name, index in names.items()} for values in (mean, sd)]
    return Reference(log_evidence, *moments)
