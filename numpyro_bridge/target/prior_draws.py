"""Draws from the prior of a NumPyro model, as positions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from numpyro import handlers

from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.target.alone import alone
from numpyro_bridge.target.sites import Repeatable
from numpyro_bridge.target.starting_points import repeat_good_rows


class PriorDraws(eqx.Module):
    """Batches of positions from the prior of a model, some of which may be infinite.

    Raises:
        NotImplementedError: when called, if a distribution of the model has no sampler.
    """

    target: Any
    """A `ModelTarget`."""
    num: int = eqx.field(static=True)

    @eqx.filter_jit
    def __call__(self, rng_key: RNGKey) -> Float[Array, "{self.num} dim"]:
        """Draw one batch."""

        @alone
        def draw(rng_key: RNGKey) -> Vector:
            model, args, kwargs = self.target._arguments()
            seeded = handlers.seed(Repeatable(model), rng_key)
            return self.target._position_of(handlers.trace(seeded).get_trace(*args, **kwargs))

        return jax.vmap(draw)(jax.random.split(rng_key, self.num))


@brief_jit
def finite_draws(
    rng_key: RNGKey, draw: PriorDraws
) -> tuple[Float[Array, "num dim"], Bool[Array, " num"]]:
    """One batch, with finite draws in the place of those that are not; and which were."""
    positions = draw(rng_key)
    finite = jnp.all(jnp.isfinite(positions), axis=-1)
    return repeat_good_rows(positions, finite), finite
