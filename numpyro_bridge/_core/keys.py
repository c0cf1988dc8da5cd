"""Random keys of both of JAX's kinds."""

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.types import RNGKey

_folded = jax.jit(jax.random.fold_in)


def fold_in(rng_key: RNGKey, number: int | np.integer) -> RNGKey:
    """`jax.random.fold_in`, by one small program, whatever the number.

    Args:
        rng_key: A JAX key.
        number: From 0 to below 2**32.
    """
    return _folded(rng_key, np.uint32(number))


def split(rng_key: RNGKey, num: int = 2) -> tuple[RNGKey, ...]:
    """`jax.random.split` into separate keys, for code that runs outside of compiled programs.

    JAX compiles a program for each number of keys, and others to take them apart. The same program
    makes all of these, which are those of JAX with its default generator.

    Args:
        rng_key: A JAX key.
        num: How many keys.
    """
    return tuple(fold_in(rng_key, number) for number in range(num))


def numbers_of_key(rng_key: RNGKey) -> list[int]:
    """The numbers that a key consists of, typed or of the older kind."""
    typed = jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(rng_key) if typed else rng_key).tolist()
