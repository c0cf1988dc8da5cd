"""Controls: the learned drifts, as functions of time, position and score."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.layers import Linear, time_features
from numpyro_bridge._core.types import RNGKey, Scalar, Vector


class ScoreInformedControl(eqx.Module):
    r"""A drift that sees the score: a small network plus a time-dependent multiple of the score.

    $$u(t, x) = \mathrm{MLP}(x, \nabla \log \gamma(x), t) + g(t) \odot \nabla \log \gamma(x)$$

    Both terms are zero at the start, so an untrained process is its own reference.
    What depends on time alone is not batched over trajectories and costs nothing.

    Reference: the parametrisation of Zhang and Chen (2022), arXiv:2111.15141 (PIS-GRAD). Departs
    from it in feeding the score to the network as well as adding a multiple of it.
    """

    time_layer: Linear
    input_layer: Linear
    hidden_layers: tuple[Linear, ...]
    output_layer: Linear
    gate_layer: Linear

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        width: int = 64,
        depth: int = 2,
        num_inputs: int | None = None,
    ):
        """Make a control for `dim` coordinates with `depth` hidden layers of `width` units.

        It looks at `num_inputs` numbers besides time and score: the position if not given.
        """
        num_inputs = dim if num_inputs is None else num_inputs
        keys = jax.random.split(rng_key, depth + 3)
        num_features = 16
        self.time_layer = Linear(keys[0], num_features, width)
        self.input_layer = Linear(keys[1], num_inputs + dim, width)
        self.hidden_layers = tuple(Linear(key, width, width) for key in keys[2 : depth + 1])
        self.output_layer = Linear(keys[-2], width, dim, gain=0.0)
        self.gate_layer = Linear(keys[-1], num_features, dim, gain=0.0)

    def __call__(self, time: Scalar, position: Float[Array, " inputs"], score: Vector) -> Vector:
        """The control at one state.

        Args:
            time: 0 at the initial law, 1 at the target.
            position: Where it is, shape `(num_inputs,)`; with what else the state has.
            score: Gradient of the target's log density at `position`, already clipped.
        """
        features = time_features(time, self.time_layer.weight.shape[0])
        inputs = jnp.concatenate([position, score])
        hidden = jax.nn.silu(self.input_layer(inputs) + self.time_layer(features))
        for layer in self.hidden_layers:
            hidden = jax.nn.silu(layer(hidden))
        return self.output_layer(hidden) + self.gate_layer(features) * score
