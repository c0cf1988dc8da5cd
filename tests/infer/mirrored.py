"""A model of two narrow modes of known masses, for all doors to a charted posterior."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

SHARE = 0.7
"""Mass of the mode at +5, whose mirror image is at -5."""


def model(y=None):
    """A location whose square is observed, with a sloping prior: two narrow modes."""
    x = numpyro.sample("x", dist.Normal(0, 5))
    numpyro.factor("slope", jnp.log(jnp.where(x > 0, SHARE, 1 - SHARE)))
    numpyro.sample("y", dist.Normal(x**2, 1.0), obs=y)


Y = jnp.asarray(25.0)


def exact() -> tuple[float, float]:
    """Log evidence, and the mass of the upper mode, by quadrature."""
    x = np.linspace(-8, 8, 400_001)
    log_density = -0.5 * (x / 5) ** 2 - np.log(5) - 0.5 * (25 - x**2) ** 2 - np.log(2 * np.pi)
    log_density += np.log(np.where(x > 0, SHARE, 1 - SHARE))
    density = np.exp(log_density)
    return float(np.log(np.trapezoid(density, x))), SHARE
