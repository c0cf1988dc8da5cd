"""Times at which a denoising loss looks at its batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey


def stratified_times(rng_key: RNGKey, num: int) -> Float[Array, "{num}"]:
    """Times in (0, 1): a uniform one in each of `num` equal parts, in rising order.

    Spreading them evenly takes away most of the noise that independent times would bring.
    """
    uniform = jax.random.uniform(rng_key, (num,), jnp.result_type(float))
    tiny = jnp.finfo(uniform.dtype).eps
    return jnp.clip((jnp.arange(num) + uniform) / num, tiny, 1 - tiny)
