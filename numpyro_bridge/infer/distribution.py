"""A learned posterior as a NumPyro distribution: the prior of the next analysis."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.density import flow_of, log_density
from numpyro_bridge.target import Target

SOLVER_TOLERANCE = 1e-5
"""Error of a step of the flow's equation, relative and absolute."""


class PosteriorDistribution(dist.Distribution):
    """The law of a denoiser's flow over the unconstrained values of a model's latent sites.

    Made by `posterior.as_distribution()`. As the prior of the next analysis it is one site, from
    which `sites` makes those of the first model:

        prior = posterior.as_distribution()


        def next_model(x, y=None):
            values = prior.sites(numpyro.sample("posterior", prior))
            numpyro.sample("y", dist.Normal(values["a"] + values["b"] * x, 1), obs=y)

    Draws and log density are of the same law, which is the posterior as far as the denoiser was
    trained to it: compare `posterior.sample(...).ess`. The log density solves a differential
    equation, dozens of network evaluations, and can be differentiated.

    Args:
        denoiser: Trained in the coordinates of the map.
        map: From standardised to unconstrained coordinates.
        target: The posterior, whose sites are made.
    """

    arg_constraints = {}
    support: Any = dist.constraints.real_vector
    pytree_data_fields = ("denoiser", "map", "target")

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
        shape = (*sample_shape, *self.event_shape)
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

        return _over_rows(one, jnp.asarray(value))

    def sites(self, value: Array) -> dict[str, Any]:
        """Constrained values of the sites of the posterior's model, deterministic ones included."""
        return _over_rows(self.target.constrain, jnp.asarray(value))


def _over_rows(function, values):
    """A function of one vector over all leading axes."""
    for _ in values.shape[:-1]:
        function = jax.vmap(function)
    return function(values)
