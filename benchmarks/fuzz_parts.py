"""What random models are made of: priors of every support, and distributions of what is seen."""

# NumPyro declares the parameters of a distribution as arrays, and these are numbers in tests.
# pyright: reportArgumentType=false

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array
from numpyro.distributions import constraints, transforms

Numbers = Mapping[str, Any]
"""The four numbers of a prior: `place` near 0, `width` and `rate` near 1, `shape` above 1."""


class Prior(NamedTuple):
    """A distribution of a latent site, and what the data see of its value."""

    make: Callable[[Numbers], dist.Distribution]
    score: Callable[[Array], Array]
    """From a value to one real number near 0, for each element of a plate."""
    dim: int = 1
    """Unconstrained coordinates of one value."""


def draw_numbers(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the numbers of a prior."""
    width, rate = 2.0 ** rng.uniform(-1.0, 1.0, 2)
    numbers = {"place": rng.normal(), "width": width, "rate": rate, "shape": rng.uniform(1.2, 6.0)}
    # As arrays: a model of other numbers is then not compiled anew.
    return {name: np.asarray(number) for name, number in numbers.items()}


# --- priors ---------------------------------------------------------------------------------------


def _same(value: Array) -> Array:
    return value


def _centred(value: Array) -> Array:
    return 4 * (value - 0.5)


def _mean(value: Array) -> Array:
    return jnp.mean(value, axis=-1)


def _first(value: Array) -> Array:
    return 3 * value[..., 0] - 1


def _corner(value: Array) -> Array:
    return value[..., 1, 0]


def _transformed(base: dist.Distribution, *parts) -> dist.Distribution:
    return dist.TransformedDistribution(base, list(parts))


def _ordered(numbers: Numbers, size: int) -> dist.Distribution:
    normal = dist.Normal(numbers["place"], numbers["width"]).expand([size]).to_event(1)
    return _transformed(normal, transforms.OrderedTransform())


def _correlated(numbers: Numbers) -> dist.Distribution:
    covariance = numbers["width"] ** 2 * jnp.asarray([[1.0, 0.6], [0.6, 1.0]])
    return dist.MultivariateNormal(numbers["place"] * jnp.ones(2), covariance)


REAL = {
    "Normal": Prior(lambda n: dist.Normal(n["place"], n["width"]), _same),
    "StudentT": Prior(lambda n: dist.StudentT(5.0, n["place"], n["width"]), _same),
    "Laplace": Prior(lambda n: dist.Laplace(n["place"], n["width"]), _same),
    "Gumbel": Prior(lambda n: dist.Gumbel(n["place"], n["width"]), _same),
    "Logistic": Prior(lambda n: dist.Logistic(n["place"], n["width"]), _same),
    "Cauchy": Prior(lambda n: dist.Cauchy(n["place"], 0.5 * n["width"]), jnp.tanh),
    "shifted Normal": Prior(
        lambda n: _transformed(
            dist.Normal(0.0, 1.0), transforms.AffineTransform(n["place"], n["width"])
        ),
        _same,
    ),
}
POSITIVE = {
    "LogNormal": Prior(lambda n: dist.LogNormal(0.3 * n["place"], n["width"]), jnp.log),
    "Gamma": Prior(lambda n: dist.Gamma(n["shape"], 2 * n["rate"]), jnp.log),
    "HalfNormal": Prior(lambda n: dist.HalfNormal(n["width"]), jnp.log),
    "Exponential": Prior(lambda n: dist.Exponential(n["rate"]), jnp.log),
    "InverseGamma": Prior(lambda n: dist.InverseGamma(1 + n["shape"], n["rate"]), jnp.log),
    "HalfCauchy": Prior(lambda n: dist.HalfCauchy(n["width"]), jnp.log),
    "Weibull": Prior(lambda n: dist.Weibull(n["width"], n["shape"]), jnp.log),
    "exp of a Normal": Prior(
        lambda n: _transformed(
            dist.Normal(0.0, 1.0),
            transforms.AffineTransform(0.3 * n["place"], 0.7),
            transforms.ExpTransform(),
        ),
        jnp.log,
    ),
    "softplus of a Normal": Prior(
        lambda n: _transformed(dist.Normal(n["place"], n["width"]), transforms.SoftplusTransform()),
        jnp.log,
    ),
}
BOUNDED = {
    "Beta": Prior(lambda n: dist.Beta(n["shape"], 2 * n["rate"]), _centred),
    "Kumaraswamy": Prior(lambda n: dist.Kumaraswamy(n["shape"], 2 * n["rate"]), _centred),
    "sigmoid of a Normal": Prior(
        lambda n: _transformed(dist.Normal(n["place"], n["width"]), transforms.SigmoidTransform()),
        _centred,
    ),
    "Uniform": Prior(lambda n: dist.Uniform(n["place"] - 1, n["place"] + n["width"]), _same),
    "TruncatedNormal of two bounds": Prior(
        lambda n: dist.TruncatedNormal(n["place"], n["width"], low=-1.0, high=2.0), _same
    ),
    "TruncatedNormal of one bound": Prior(
        lambda n: dist.TruncatedNormal(n["place"], n["width"], low=-0.5), _same
    ),
    "Pareto": Prior(lambda n: dist.Pareto(n["width"], 3 + n["shape"]), jnp.log),
    "shifted Exponential": Prior(
        lambda n: _transformed(
            dist.Exponential(n["rate"]),
            transforms.AffineTransform(n["place"], 1.0, domain=constraints.positive),
        ),
        lambda x: x - 1,
    ),
    "VonMises": Prior(lambda n: dist.VonMises(n["place"], n["shape"]), jnp.sin),
}
VECTORS = {
    "Dirichlet of 2": Prior(lambda n: dist.Dirichlet(n["shape"] * jnp.ones(2)), _first, 1),
    "Dirichlet of 3": Prior(
        lambda n: dist.Dirichlet(jnp.stack([n["shape"], 2 * n["rate"], 1 + n["width"]])), _first, 2
    ),
    "ordered 2": Prior(lambda n: _ordered(n, 2), _mean, 2),
    "ordered 3": Prior(lambda n: _ordered(n, 3), _mean, 3),
    "LKJCholesky of 2": Prior(lambda n: dist.LKJCholesky(2, n["shape"]), _corner, 1),
    "LKJCholesky of 3": Prior(lambda n: dist.LKJCholesky(3, n["shape"]), _corner, 3),
    "LKJ of 2": Prior(lambda n: dist.LKJ(2, n["shape"]), _corner, 1),
    "ZeroSumNormal of 3": Prior(
        lambda n: dist.ZeroSumNormal(n["width"], (3,)), lambda x: x[..., 0], 2
    ),
    "MultivariateNormal": Prior(_correlated, _mean, 2),
    "GaussianRandomWalk": Prior(
        lambda n: dist.GaussianRandomWalk(0.7 * n["width"], 3), lambda x: x[..., -1], 3
    ),
    "Normal of an event": Prior(
        lambda n: dist.Normal(n["place"], n["width"]).expand([2]).to_event(1), _mean, 2
    ),
    "Wishart of 2": Prior(
        lambda n: dist.Wishart(3 + n["shape"], 0.3 * jnp.eye(2)),
        lambda x: jnp.log(x[..., 0, 0]),
        3,
    ),
}
PRIORS = REAL | POSITIVE | BOUNDED | VECTORS


# --- what is seen ---------------------------------------------------------------------------------


class Likelihood(NamedTuple):
    """A distribution of one row of data."""

    make: Callable[[Array, Any], dist.Distribution]
    """From the predictor of each row, shape `(rows,)`, and a noise level."""
    draw: Callable[[np.random.Generator, np.ndarray, float], np.ndarray]
    """Rows of data, from the same."""
    kind: str
    """Which types the data may have: a key of `TYPES`."""


TRIALS, CUTS = 7, np.asarray([-0.7, 0.8])


def _three_shares(eta):
    return jax.nn.softmax(jnp.stack([jnp.zeros_like(eta), eta, -0.5 * eta], -1))


def _draw_class(rng, eta, noise):
    shares = np.asarray(_three_shares(jnp.asarray(eta)), float)
    return np.asarray([rng.choice(3, p=share / share.sum()) for share in shares])


def _draw_tallies(rng, eta, noise):
    shares = np.asarray(_three_shares(jnp.asarray(eta)), float)
    return np.stack([rng.multinomial(TRIALS, share / share.sum()) for share in shares])


def _two_normals(eta, noise):
    places = jnp.stack([eta - 1.0, eta + 1.5], -1)
    return dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.asarray([0.4, 0.6])), dist.Normal(places, noise)
    )


def _pair(eta, noise):
    mean = jnp.stack([eta, 0.5 - eta], -1)
    scale = jnp.asarray([[1.0, 0.0], [0.5, 0.8]]) * jnp.asarray(noise)[..., None, None]
    return dist.MultivariateNormal(mean, scale_tril=scale)


def _sigmoid(eta):
    return 1 / (1 + np.exp(-eta))


LIKELIHOODS = {
    "Normal": Likelihood(dist.Normal, lambda r, e, s: r.normal(e, s), "real"),
    "StudentT": Likelihood(
        lambda e, s: dist.StudentT(4.0, e, s),
        lambda r, e, s: e + s * r.standard_t(4, e.shape),
        "real",
    ),
    "Laplace": Likelihood(dist.Laplace, lambda r, e, s: r.laplace(e, s), "real"),
    "LogNormal": Likelihood(dist.LogNormal, lambda r, e, s: np.exp(r.normal(e, s)), "real"),
    "Gamma": Likelihood(
        lambda e, s: dist.Gamma(2.0, 2.0 * jnp.exp(-0.5 * e)),
        lambda r, e, s: r.gamma(2.0, np.exp(0.5 * e) / 2),
        "real",
    ),
    "Beta": Likelihood(
        lambda e, s: dist.BetaProportion(jax.nn.sigmoid(e), 5.0),
        lambda r, e, s: np.clip(r.beta(5 * _sigmoid(e), 5 * _sigmoid(-e)), 0.01, 0.99),
        "real",
    ),
    "VonMises": Likelihood(
        lambda e, s: dist.VonMises(e, 2.0), lambda r, e, s: r.vonmises(e, 2.0), "real"
    ),
    "two Normals": Likelihood(
        _two_normals, lambda r, e, s: r.normal(e + r.choice([-1.0, 1.5], e.shape), s), "real"
    ),
    "pairs": Likelihood(
        _pair, lambda r, e, s: np.stack([r.normal(e, s), r.normal(0.5 - e, s)], -1), "real"
    ),
    "Poisson": Likelihood(
        lambda e, s: dist.Poisson(jnp.exp(0.5 * e)),
        lambda r, e, s: r.poisson(np.exp(0.5 * e)),
        "count",
    ),
    "NegativeBinomial": Likelihood(
        lambda e, s: dist.NegativeBinomial2(jnp.exp(0.5 * e), 3.0),
        lambda r, e, s: r.poisson(np.exp(0.5 * e) * r.gamma(3.0, 1 / 3, e.shape)),
        "count",
    ),
    "ZeroInflatedPoisson": Likelihood(
        lambda e, s: dist.ZeroInflatedPoisson(0.2, jnp.exp(0.5 * e)),
        lambda r, e, s: r.poisson(np.exp(0.5 * e)) * (r.uniform(size=e.shape) > 0.2),
        "count",
    ),
    "Binomial": Likelihood(
        lambda e, s: dist.Binomial(TRIALS, logits=e),
        lambda r, e, s: r.binomial(TRIALS, _sigmoid(e)),
        "count",
    ),
    "Multinomial": Likelihood(
        lambda e, s: dist.Multinomial(TRIALS, probs=_three_shares(e)), _draw_tallies, "count"
    ),
    "Categorical": Likelihood(
        lambda e, s: dist.Categorical(probs=_three_shares(e)), _draw_class, "class"
    ),
    "OrderedLogistic": Likelihood(
        lambda e, s: dist.OrderedLogistic(e, CUTS),
        lambda r, e, s: np.digitize(r.logistic(e), CUTS),
        "class",
    ),
    "Bernoulli": Likelihood(
        lambda e, s: dist.Bernoulli(logits=e),
        lambda r, e, s: r.uniform(size=e.shape) < _sigmoid(e),
        "yes or no",
    ),
    "Bernoulli of shares": Likelihood(
        lambda e, s: dist.Bernoulli(probs=jax.nn.sigmoid(e)),
        lambda r, e, s: r.uniform(size=e.shape) < _sigmoid(e),
        "yes or no",
    ),
}

TYPES = {
    "real": ("float64", "float32", "float16", "JAX", "list"),
    "count": ("int64", "int32", "uint8", "float64", "JAX", "list"),
    "class": ("int64", "int32", "uint8", "JAX", "list"),
    "yes or no": ("bool", "int64", "int32", "float32", "JAX", "list"),
}
"""Which types the data of each kind may have."""


def as_type(values: np.ndarray, name: str) -> Any:
    """Give data one of the types of `TYPES`."""
    if name == "JAX":
        return jnp.asarray(values)
    return values.tolist() if name == "list" else values.astype(name)
