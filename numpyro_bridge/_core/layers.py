"""Layers of the small networks: an affine layer, and time as sines and cosines."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey, Scalar


def time_features(time: Scalar, num_features: int) -> Float[Array, " features"]:
    """Sines and cosines of `time` in [0, 1], with 1/2, 1, … up to `num_features / 4` periods.

    Args:
        time: 0 at the initial distribution, 1 at the target.
        num_features: Length of the result; even.
    """
    angles = math.pi * time * jnp.arange(1, num_features // 2 + 1, dtype=jnp.result_type(float))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])


class Linear(eqx.Module):
    """The affine layer `inputs @ weight + bias`.

    In this order a batch made by `vmap` keeps its rows, and nothing has to be transposed.
    """

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, rng_key: RNGKey, num_inputs: int, num_outputs: int, gain: float = 1.0):
        """Draw normal weights with variance `gain² / num_inputs`; the bias is zero."""
        self.weight = _normal_weights(rng_key, num_inputs, num_outputs, gain)
        self.bias = jnp.zeros_like(self.weight[0])

    def __call__(self, inputs: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """Apply the affine map to one vector."""
        return inputs @ self.weight + self.bias


@partial(jax.jit, static_argnums=(1, 2, 3))  # as one program instead of five small ones
def _normal_weights(rng_key, num_inputs, num_outputs, gain):
    scale, dtype = gain / math.sqrt(num_inputs), jnp.result_type(float)
    if gain == 0:
        return jnp.zeros((num_inputs, num_outputs), dtype)
    return scale * jax.random.normal(rng_key, (num_inputs, num_outputs), dtype)
