"""Posteriors of posteriordb, each with a log evidence that no sampler of the package has made.

It is in closed form or by quadrature where possible. Else it is an importance estimate from a
Student distribution around posteriordb's own draws, correct to about a hundredth of a nat. Under
flat priors it is the log of the integral of the density as it is written, which has no meaning.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from benchmarks import posteriordb_models as models
from benchmarks.targets import Benchmark, Reference
from numpyro_bridge._core import weights

FILES = {
    "arK": "arK-arK",
    "gp_regr": "gp_pois_regr-gp_regr",
    "kidscore_interaction": "kidiq-kidscore_interaction",
    "logmesquite_logvash": "mesquite-logmesquite_logvash",
    "garch11": "garch-garch11",
    "low_dim_gauss_mix": "low_dim_gauss_mix-low_dim_gauss_mix",
    "one_comp_mm_elim_abs": "one_comp_mm_elim_abs-one_comp_mm_elim_abs",
}
NAMES = tuple(FILES)


def load(name: str, data: Path) -> Benchmark:
    """Read one posterior, with its reference, from the data folder.

    Raises:
        KeyError: if `name` is not in `NAMES`.
    """
    case = json.loads((data / "posteriordb" / f"{FILES[name]}.json").read_text())
    values = {key: np.asarray(value, np.float64) for key, value in case["data"].items()}
    model, kwargs, log_evidence = LOADERS[name](values)
    kwargs = {key: np.asarray(value, np.float32) for key, value in kwargs.items()}
    mean, sd = (by_site(case["reference"], moment) for moment in ("mean", "sd"))
    if log_evidence is None:
        log_evidence = importance_evidence(model, kwargs, _latents(name, data))
    if name == "one_comp_mm_elim_abs":
        draws = _reference_draws(name, data)
        for site in ("K_m", "V_m"):
            logs = np.log(draws[site])
            mean[f"log_{site}"], sd[f"log_{site}"] = np.asarray(logs.mean()), np.asarray(logs.std())
            del mean[site], sd[site]
    return Benchmark(name, model, kwargs, Reference(log_evidence, mean, sd))


def by_site(reference: dict, moment: str) -> dict[str, np.ndarray]:
    """Gather numbers named `beta[1]`, `beta[2]`, `sigma` into arrays by site."""
    return _gathered(reference["names"], np.asarray(reference[moment]))


def _gathered(names, values) -> dict[str, np.ndarray]:
    columns: dict[str, list] = {}
    for index, name in enumerate(names):
        columns.setdefault(str(name).split("[")[0], []).append(index)
    return {
        site: values[..., index] if "[" in str(names[index[0]]) else values[..., index[0]]
        for site, index in columns.items()
    }


def _reference_draws(name: str, data: Path) -> dict[str, np.ndarray]:
    with np.load(data / "posteriordb" / f"{FILES[name]}.npz") as file:
        return _gathered(file["names"], file["draws"])


def _latents(name: str, data: Path) -> dict[str, np.ndarray]:
    """posteriordb's draws by the latent sites of the model here."""
    draws = _reference_draws(name, data)
    if name == "garch11":
        alpha1, beta1 = draws.pop("alpha1"), draws.pop("beta1")
        draws["shares"] = np.stack([alpha1, beta1, 1 - alpha1 - beta1], axis=1)
    return draws


# --- data and evidence of each --------------------------------------------------------------------


def _autoregression(values: dict):
    order, y = int(values["K"]), values["y"]
    past = np.stack([y[order - lag : len(y) - lag] for lag in range(1, order + 1)], axis=1)
    design = np.column_stack([np.ones(len(past)), past])
    evidence = regression_evidence(design, y[order:], half_cauchy, prior_variance=100.0)
    return models.autoregression, {"past": past, "y": y[order:]}, evidence


def _gaussian_process(values: dict):
    x, y = values["x"], values["y"]
    return models.gaussian_process, {"x": x, "y": y}, process_evidence(x, y)


def _kidscore(values: dict):
    school, iq = values["mom_hs"], values["mom_iq"]
    design = np.column_stack([np.ones(len(iq)), school, iq, school * iq])
    y = values["kid_score"]
    evidence = regression_evidence(design, y, half_cauchy)
    return models.regression_with_flat_priors, {"design": design, "y": y}, evidence


def _mesquite(values: dict):
    area = np.log(values["diam1"] * values["diam2"])
    canopy = np.log(values["canopy_height"])
    shape, height = np.log(values["diam1"] / values["diam2"]), np.log(values["total_height"])
    columns = [np.ones(len(area)), area + canopy, area, shape, height, values["group"]]
    design, y = np.column_stack(columns), np.log(values["weight"])
    evidence = regression_evidence(design, y, np.zeros_like)
    return models.regression_with_flat_scale, {"design": design, "y": y}, evidence


def _garch(values: dict):
    return models.garch, {"y": values["y"], "first_scale": values["sigma1"]}, None


def _mixture(values: dict):
    return models.mixture_of_two, {"y": values["y"]}, None


def _elimination(values: dict):
    kwargs = {
        "times": values["times"],
        "concentration": values["C_hat"],
        "dose": values["D"],
        "volume": values["V"],
    }
    return models.elimination, kwargs, None


LOADERS = {
    "arK": _autoregression,
    "gp_regr": _gaussian_process,
    "kidscore_interaction": _kidscore,
    "logmesquite_logvash": _mesquite,
    "garch11": _garch,
    "low_dim_gauss_mix": _mixture,
    "one_comp_mm_elim_abs": _elimination,
}


def half_cauchy(sigma):
    """Log density of a half-Cauchy distribution of scale 2.5."""
    return np.log(2 / (np.pi * 2.5)) - np.log1p((sigma / 2.5) ** 2)


def regression_evidence(design, y, log_prior, prior_variance: float | None = None) -> float:
    """Log evidence of a linear regression, by quadrature over log sigma alone.

    Args:
        design: Covariates, shape `(rows, coefficients)`.
        y: Responses.
        log_prior: Log density of the noise's standard deviation.
        prior_variance: Prior variance of the coefficients; None for a flat prior of density one.
    """
    log_sigma = np.linspace(-4.0, 5.0, 9001)
    values, vectors = np.linalg.eigh(design.T @ design)
    projected = vectors.T @ (design.T @ y)
    sigma = np.exp(log_sigma)
    sigma2 = sigma[:, None] ** 2
    precision = values / sigma2 + (0.0 if prior_variance is None else 1 / prior_variance)
    quadratic = y @ y / sigma**2 - np.sum((projected / sigma2) ** 2 / precision, axis=1)
    width = 1 / (2 * np.pi) if prior_variance is None else prior_variance
    log_det = np.sum(np.log(width * precision), axis=1) + len(y) * np.log(2 * np.pi * sigma**2)
    log_joint = -0.5 * (quadratic + log_det) + log_prior(sigma) + log_sigma
    top = np.max(log_joint)
    return float(top + np.log(np.sum(np.exp(log_joint - top)) * (log_sigma[1] - log_sigma[0])))


def process_evidence(x, y) -> float:
    """Log evidence of `gp_regr`: all three parameters by quadrature, on their own scales."""
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


def importance_evidence(model, kwargs: dict, latents: dict, num: int = 40_000) -> float:
    """Log evidence by importance sampling from a Student distribution around given draws.

    Raises:
        RuntimeError: if its error is above 0.02.
    """
    degrees, widening = 4.0, 1.2
    target = nb.target_from_model(jax.random.key(0), model, **kwargs)
    values = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in latents.items()}
    given = jax.vmap(target.unconstrain)(values)
    mean = jnp.mean(given, axis=0)
    factor = widening * jnp.linalg.cholesky(jnp.atleast_2d(jnp.cov(given.T)))
    normal_key, scale_key = jax.random.split(jax.random.key(1))
    normal = jax.random.normal(normal_key, (num, target.dim))
    chi2 = 2 * jax.random.gamma(scale_key, degrees / 2, (num,))
    positions = mean + (normal / jnp.sqrt(chi2 / degrees)[:, None]) @ factor.T
    log_density = jax.lax.map(target.log_density, positions, batch_size=2_000)
    squares = jnp.sum(normal**2, axis=1) * degrees / chi2
    log_proposal = (
        jax.scipy.special.gammaln((degrees + target.dim) / 2)
        - jax.scipy.special.gammaln(degrees / 2)
        - 0.5 * target.dim * jnp.log(degrees * jnp.pi)
        - jnp.sum(jnp.log(jnp.diag(factor)))
        - 0.5 * (degrees + target.dim) * jnp.log1p(squares / degrees)
    )
    value, error = weights.log_evidence(log_density - log_proposal)
    if not error < 0.02:
        raise RuntimeError(f"the reference evidence {value} has an error of {error}")
    return float(value)
