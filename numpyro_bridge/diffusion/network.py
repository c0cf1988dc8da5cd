"""The network of a denoiser: a residual multilayer perceptron that knows the noise level."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.layers import Linear, time_features
from numpyro_bridge._core.types import RNGKey, Scalar, Vector

NUM_FEATURES = 16


class DenoisingNetwork(eqx.Module):
    """Residual hidden layers, modulated by the noise level; a context is added to their input.

    The network reads a noisy vector of unit scale. Before training its output is zero, which is the
    right velocity for standard normal data.
    """

    input_layer: Linear
    level_layer: Linear
    context_layer: Linear | None
    hidden_layers: tuple[tuple[Linear, Linear], ...]
    output_layer: Linear

    def __init__(
        self, rng_key: RNGKey, dim: int, width: int = 128, depth: int = 3, context_size: int = 0
    ):
        """Make a network for `dim` coordinates with `depth` hidden layers of `width` units.

        With a positive `context_size` it also reads a vector of that length.
        """
        keys = jax.random.split(rng_key, 2 * depth + 3)
        self.input_layer = Linear(keys[0], dim, width)
        self.level_layer = Linear(keys[1], NUM_FEATURES, width)
        self.context_layer = Linear(keys[2], context_size, width) if context_size else None
        pairs = zip(keys[3::2], keys[4::2], strict=True)
        self.hidden_layers = tuple(
            (Linear(key, width, width), Linear(level_key, NUM_FEATURES, 2 * width, gain=0.0))
            for key, level_key in pairs
        )
        self.output_layer = Linear(keys[0], width, dim, gain=0.0)

    def __call__(
        self, noisy: Vector, log_snr: Scalar, context: Float[Array, " features"] | None = None
    ) -> Vector:
        """The output at one noisy vector.

        Args:
            noisy: The noisy vector at unit scale, shape `(dim,)`.
            log_snr: The log-SNR of its noise level, which may be infinite.
            context: What the draw is conditioned on, shape `(context_size,)`.

        Raises:
            ValueError: if a context is missing, or given to a network that takes none.
        """
        if (context is None) != (self.context_layer is None):
            size = 0 if self.context_layer is None else self.context_layer.weight.shape[0]
            got = "none" if context is None else f"shape {context.shape}"
            raise ValueError(f"this network takes a context of size {size}, got {got}")
        # Log-SNRs from -10 to 10 take most of the unit interval, and infinite ones are its ends.
        features = time_features(jax.nn.sigmoid(0.25 * log_snr), NUM_FEATURES)
        hidden = self.input_layer(noisy) + self.level_layer(features)
        if context is not None and self.context_layer is not None:
            hidden = hidden + self.context_layer(context)
        for layer, modulation in self.hidden_layers:
            gain, shift = jnp.split(modulation(features), 2)
            hidden = hidden + layer(jax.nn.silu((1 + gain) * hidden + shift))
        return self.output_layer(jax.nn.silu(hidden))
