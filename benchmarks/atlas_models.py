"""The NumPyro models of the atlas benchmark, with their data."""

import itertools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from benchmarks.atlas_densities import Modes, one_of

# --- mixtures with exchangeable components --------------------------------------------------------

INTERCEPT_SCALE, SLOPE_SCALE = 4.0, 2.0
LINES = {
    3: [(-2.0, -1.5), (2.0, 0.3), (0.0, 2.0)],
    4: [(3.0, -2.0), (-2.5, -0.8), (2.0, 0.8), (-1.0, 2.2)],
}
"""The intercept and the slope of each line that the data come from, in the order of the slopes."""
WEIGHTS = {3: (0.3, 0.45, 0.25), 4: (0.2, 0.3, 0.3, 0.2)}
LINES_NOISE = 0.4


def mixture_of_lines(x, concentration, y=None):
    """Each observation lies near one of a few straight lines, and nobody knows near which.

    The components are exchangeable, so that every order of them is a mode of the same mass.
    """
    num = concentration.shape[0]
    weights = numpyro.sample("weights", dist.Dirichlet(concentration))
    intercept = numpyro.sample(
        "intercept", dist.Normal(0, INTERCEPT_SCALE).expand([num]).to_event(1)
    )
    slope = numpyro.sample("slope", dist.Normal(0, SLOPE_SCALE).expand([num]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    lines = dist.Normal(intercept + slope * x[:, None], sigma)
    numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(weights), lines), obs=y)


def lines_data(num: int) -> dict[str, np.ndarray]:
    """Thirty observations for each line."""
    rng = np.random.default_rng([11, num])
    line = rng.choice(num, 30 * num, p=WEIGHTS[num])
    intercept, slope = np.asarray(LINES[num]).T
    x = rng.uniform(-2.0, 2.0, 30 * num)
    y = intercept[line] + slope[line] * x + LINES_NOISE * rng.normal(size=30 * num)
    values = {"x": x, "concentration": np.full(num, 2.0), "y": y}
    return {name: value.astype(np.float32) for name, value in values.items()}


def label_orders(site: str, num: int) -> Modes:
    """One mode for each order of exchangeable components, told apart by the order of a site."""
    orders = list(itertools.permutations(range(num)))
    place = {order: index for index, order in enumerate(orders)}

    def index_of(sites):
        return np.asarray([place[tuple(order)] for order in np.argsort(sites[site], axis=1)])

    return Modes(np.full(len(orders), 1 / len(orders)), one_of(len(orders), index_of))


def mixture_of_two(y=None):
    """A mixture of two normal distributions whose labels may be exchanged: `low_dim_gauss_mix`."""
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    parts = dist.Categorical(jnp.stack([theta, 1 - theta]))
    numpyro.sample("y", dist.MixtureSameFamily(parts, dist.Normal(mu, sigma)), obs=y)


def mixture_of_two_data(data: Path) -> dict[str, np.ndarray]:
    """The thousand observations of posteriordb."""
    case = data / "posteriordb" / "low_dim_gauss_mix-low_dim_gauss_mix.json"
    return {"y": np.asarray(json.loads(case.read_text())["data"]["y"], np.float32)}


# --- a location with outliers ---------------------------------------------------------------------

CLUSTERS = np.asarray([[-5.0, -2.0], [5.0, 3.0]])
CLUSTER_SIZE = 6
LOCATION_SCALE = 10.0


def cauchy_location(y=None):
    """The centre of a Cauchy distribution in the plane, of which the data show two candidates."""
    prior = dist.Normal(0, LOCATION_SCALE).expand([2]).to_event(1)
    location = numpyro.sample("location", prior)
    with numpyro.plate("observation", 2 * CLUSTER_SIZE):
        errors = dist.MultivariateStudentT(1.0, location, jnp.eye(2))
        numpyro.sample("y", errors, obs=y)


def cauchy_data() -> dict[str, np.ndarray]:
    """Two clusters of six observations, of which chance made the first one tighter."""
    rng = np.random.default_rng(7)
    centres = np.repeat(CLUSTERS, CLUSTER_SIZE, axis=0)
    y = centres + 0.9 * rng.normal(size=centres.shape)
    return {"y": y.astype(np.float32)}


def nearest_cluster(location: np.ndarray) -> np.ndarray:
    """The index of the cluster that is nearer to each location, shape `(...,)`."""
    distance = np.sum((location[..., None, :] - CLUSTERS) ** 2, axis=-1)
    return np.argmin(distance, axis=-1)


# --- hierarchies ----------------------------------------------------------------------------------


def schools_half_cauchy(sigma, y=None):
    """Rubin (1981), centred, with a half-Cauchy scale."""
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    _centred_schools(tau, sigma, y)


def schools_inverse_gamma(sigma, y=None):
    """Rubin (1981), centred, with the prior of the variance that used to be customary."""
    variance = jnp.asarray(numpyro.sample("variance", dist.InverseGamma(0.001, 0.001)))
    _centred_schools(jnp.sqrt(variance), sigma, y)


def _centred_schools(tau, sigma, y):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    with numpyro.plate("school", sigma.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def schools_data(data: Path) -> dict[str, np.ndarray]:
    """The effects and the standard errors of posteriordb."""
    case = data / "posteriordb" / "eight_schools-eight_schools_centered.json"
    values = json.loads(case.read_text())["data"]
    return {name: np.asarray(values[name], np.float32) for name in ("sigma", "y")}


# --- sparse regression ----------------------------------------------------------------------------

GLOBAL_SCALE = 0.1
CORRELATION = 0.7


def horseshoe(design, y=None):
    """Linear regression with unit noise, where few coefficients are expected to matter.

    The scale of each coefficient is a product of a global and a local half-Cauchy variable, which
    makes a funnel for every coefficient, with tails that no normal distribution follows.
    """
    num = design.shape[1]
    tau = numpyro.sample("tau", dist.HalfCauchy(GLOBAL_SCALE))
    local = numpyro.sample("local", dist.HalfCauchy(1).expand([num]).to_event(1))
    raw = numpyro.sample("raw", dist.Normal(0, 1).expand([num]).to_event(1))
    beta = numpyro.deterministic("beta", tau * local * raw)
    numpyro.sample("y", dist.Normal(design @ beta, 1).to_event(1), obs=y)


def horseshoe_data(num: int, orthogonal: bool) -> dict[str, np.ndarray]:
    """Twice as many rows as coefficients, four of which are not zero.

    Args:
        num: The number of coefficients; the posterior has `2 * num + 1` dimensions.
        orthogonal: Whether the columns are orthogonal, or each is correlated with the next.
    """
    rng = np.random.default_rng([23, num])
    num_rows = 2 * num
    design = rng.normal(size=(num_rows, num))
    if orthogonal:
        design = np.linalg.qr(design)[0] * np.sqrt(num_rows)
    else:
        distance = np.abs(np.subtract.outer(np.arange(num), np.arange(num)))
        design = design @ np.linalg.cholesky(CORRELATION**distance).T
    beta = np.zeros(num)
    beta[[0, 1, num // 2, num // 2 + 1]] = [1.8, -1.2, 0.7, 0.3]
    y = design @ beta + rng.normal(size=num_rows)
    return {"design": design.astype(np.float32), "y": y.astype(np.float32)}
