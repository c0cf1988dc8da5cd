"""Random keys of both of JAX's kinds."""

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.types import RNGKey


def numbers_of_key(rng_key: RNGKey) -> list[int]:
    """The numbers that a key consists of, typed or of the older kind."""
    typed = jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(rng_key) if typed else rng_key).tolist()
