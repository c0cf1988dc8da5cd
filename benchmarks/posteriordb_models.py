"""The posteriors of posteriordb that benchmarks learn, as NumPyro models."""

from typing import cast

import diffrax
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints


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


def regression_with_flat_priors(design, y=None):
    """Coefficients without a prior, a half-Cauchy scale: `kidscore_interaction`."""
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    _flat_regression(design, sigma, y)


def regression_with_flat_scale(design, y=None):
    """No prior at all: `logmesquite_logvash`."""
    sigma = numpyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    _flat_regression(design, sigma, y)


def _flat_regression(design, sigma, y):
    flat = dist.ImproperUniform(constraints.real, (), (design.shape[1],))
    beta = numpyro.sample("beta", flat)
    numpyro.sample("y", dist.Normal(design @ beta, sigma), obs=y)


def garch(y, first_scale):
    """Volatility that follows the squares before it, with a flat prior: `garch11`.

    `alpha1`, `beta1` and what is missing to one are uniform on a simplex. Their density there is
    two, and a factor takes it out again to make the prior flat.
    """
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    alpha0 = numpyro.sample("alpha0", dist.ImproperUniform(constraints.positive, (), ()))
    shares = jnp.asarray(numpyro.sample("shares", dist.Dirichlet(jnp.ones(3))))
    alpha1 = numpyro.deterministic("alpha1", shares[0])
    beta1 = numpyro.deterministic("beta1", shares[1])
    numpyro.factor("flat", -jnp.log(2.0))

    def step(variance, square):
        return (alpha0 + alpha1 * square + beta1 * variance,) * 2

    first = jnp.square(jnp.asarray(first_scale, y.dtype))
    _, later = jax.lax.scan(step, first, (y[:-1] - mu) ** 2)
    scale = jnp.sqrt(jnp.append(first, later))
    numpyro.sample("y", dist.Normal(mu, scale), obs=y)


def mixture_of_two(y=None):
    """A mixture of two normal distributions with ordered means: `low_dim_gauss_mix`.

    The prior of the means is the product of their two densities where the means are ordered, which
    is half the density of two draws that are put in order.
    """
    ordered = dist.ImproperUniform(constraints.ordered_vector, (), (2,))
    mu = numpyro.sample("mu", ordered)
    numpyro.factor("prior_of_mu", dist.Normal(0, 2).log_prob(mu).sum())
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    parts = dist.Categorical(jnp.stack([theta, 1 - theta]))
    numpyro.sample("y", dist.MixtureSameFamily(parts, dist.Normal(mu, sigma)), obs=y)


def elimination(times, concentration=None, dose=30.0, volume=2.0):
    """One compartment with saturating elimination, a differential equation: `one_comp_mm_elim_abs`.

    `K_m` and `V_m` have infinite variances; their logarithms, which are compared, do not.
    """
    half_cauchy = dist.HalfCauchy(1.0)
    sites = (numpyro.sample(name, half_cauchy) for name in ("k_a", "K_m", "V_m"))
    k_a, k_m, v_m = map(jnp.asarray, sites)
    sigma = numpyro.sample("sigma", half_cauchy)
    numpyro.deterministic("log_K_m", jnp.log(k_m))
    numpyro.deterministic("log_V_m", jnp.log(v_m))

    def rate(time, amount, _):
        absorbed = jnp.exp(-k_a * time) * dose * k_a / volume
        return absorbed - v_m / volume * amount / (k_m + amount)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(rate),
        diffrax.Tsit5(),
        t0=0.0,
        t1=times[-1],
        dt0=0.05,
        y0=jnp.zeros((), times.dtype),
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-7),
        max_steps=1_024,
        throw=False,
    )
    log_amount = jnp.log(cast("jax.Array", solution.ys))
    numpyro.sample("concentration", dist.LogNormal(log_amount, sigma), obs=concentration)
