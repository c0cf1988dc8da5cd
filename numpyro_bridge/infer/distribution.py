"""A learned posterior as a NumPyro distribution, to be the prior of the next analysis."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from numpyro_bridge._core.checks import check_key, check_shape, described
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge._core.untyped_bases import Distribution
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.density import flow_of, log_density
from numpyro_bridge.target import Target

SOLVER_TOLERANCE = 1e-5
"""Error allowed in each step of solving the flow's differential equation."""


class PosteriorDistribution(Distribution):
    """The distribution of a denoiser's flow, over unconstrained values of a model's latent sites.

    It is made by `posterior.as_distribution()`. In the next model it is the prior of a single site,
    from whose value `sites` makes the sites of the first model:

    >>> import numpyro
    >>> prior = amortised.condition(x, y=y).as_distribution()
    >>> def next_model(x, y=None):
    ...     values = prior.sites(numpyro.sample("posterior", prior))
    ...     numpyro.sample("y", numpyro.distributions.Normal(values["slope"] * x, 1.0), obs=y)
    >>> sampler = nb.BridgeSampler(next_model)

    Draws and log density belong to the same distribution. How close it is to the posterior depends
    on how well the denoiser was trained; `posterior.sample(...).ess` tells. The log density can be
    differentiated; it solves a differential equation, which takes dozens of network evaluations.

    Args:
        denoiser: The denoiser, trained in standardised coordinates.
        map: The map from standardised to unconstrained coordinates.
        target: The posterior, whose sites are made from a draw.
    """

    arg_constraints: dict[str, Any] = {}
    support: Any = dist.constraints.real_vector
    pytree_data_fields: tuple[str, ...] = ("denoiser", "map", "target")

    def __init__(
        self,
        denoiser: Denoiser,
        map: AbstractMap,
        target: Target,
        *,
        validate_args: bool | None = None,
    ):
        self.denoiser = denoiser
        self.map = map
        self.target = target
        super().__init__(event_shape=(target.dim,), validate_args=validate_args)

    def sample(self, key: RNGKey, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw unconstrained vectors, shape `sample_shape + (dim,)`."""
        check_key(key, "key")
        shape = (*check_shape("sample_shape", sample_shape), *self.event_shape)
        noise = jax.random.normal(key, shape, jnp.result_type(float))

        def draw(noise: Vector) -> Vector:
            return self.map(flow_of(self.denoiser, noise, tolerance=SOLVER_TOLERANCE))

        return _over_rows(draw, noise)

    def log_prob(self, value: Array) -> Array:
        """Log density of unconstrained vectors, in nats."""

        def one(position: Vector) -> Array:
            standardised = self.map.inverse(position)
            density = log_density(self.denoiser, standardised, tolerance=SOLVER_TOLERANCE)
            return density - self.map.log_det(standardised)

        return _over_rows(one, self._vectors(value))

    def sites(self, value: Array) -> dict[str, Any]:
        """Constrained values of all sites of the first model, deterministic ones included."""
        return _over_rows(self.target.constrain, self._vectors(value))

    def _vectors(self, value: Any) -> Array:
        """Unconstrained vectors as an array of JAX."""
        found = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
        vectors = jnp.issubdtype(found, np.number) and np.shape(value)[-1:] == self.event_shape
        if not vectors:
            raise ValueError(
                f"value must be unconstrained vectors of shape (..., {self.target.dim}), such as "
                f"prior.sample(rng_key), got {described(value)}"
            )
        return jnp.asarray(value, jnp.result_type(float))


def _over_rows(function, values):
    """Apply a function of one vector over all leading axes."""
    for _ in values.shape[:-1]:
        function = jax.vmap(function)
    return function(values)
