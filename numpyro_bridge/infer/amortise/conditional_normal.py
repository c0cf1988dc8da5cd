"""ConditionalNormal: a normal distribution whose mean and covariance depend on the data."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.layers import Linear
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.diffusion.samples import SampleLosses, Samples


class ConditionalNormal(eqx.Module):
    r"""A normal distribution given a context; a network gives its mean and precision.

    $$\theta \mid c \sim \mathcal{N}\left(m, (A^\top A)^{-1}\right), \qquad A = e^D (I + N), \qquad
      -\log q(\theta \mid c) = \tfrac12 \lVert A (\theta - m) \rVert^2 - \operatorname{tr} D
      + \tfrac{d}{2} \log 2 \pi$$

    with $D$ diagonal and $N$ strictly lower-triangular. The likelihood needs no linear solve. The
    entries of $N$ are minus the coefficients of a regression of each coordinate on those before it,
    which do not change with the scale. $m$, $D$ and $N$ are the sum of an affine function of the
    context $c$ and of the output of a residual network. Both are zero at the start, so that
    $\theta$ is standard normal.

    Args:
        rng_key: A JAX key for the first weights.
        dim: Length of the vectors, which should be of unit scale.
        context_size: Length of the context.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
    """

    input_layer: Linear
    hidden_layers: tuple[Linear, ...]
    output_layer: Linear
    direct_layer: Linear
    dim: int = eqx.field(static=True)

    def __init__(
        self, rng_key: RNGKey, dim: int, context_size: int, width: int = 128, depth: int = 2
    ):
        keys = jax.random.split(rng_key, depth + 1)
        size = 2 * dim + dim * (dim - 1) // 2
        self.input_layer = Linear(keys[0], context_size, width)
        self.hidden_layers = tuple(Linear(key, width, width) for key in keys[1:])
        self.output_layer = Linear(keys[0], width, size, gain=0.0)
        self.direct_layer = Linear(keys[0], context_size, size, gain=0.0)
        self.dim = dim

    def log_prob(self, position: Vector, context: Float[Array, " features"]) -> Scalar:
        """Log density of a position, in nats."""
        mean, log_diagonal, precision_root = self._parameters(context)
        residual = precision_root @ (position - mean)
        normal = jnp.sum(jax.scipy.stats.norm.logpdf(residual))
        return normal + jnp.sum(log_diagonal)

    def map(self, context: Float[Array, " features"]) -> DenseMap:
        """The affine map from standard normal vectors to draws."""
        mean, _, precision_root = self._parameters(context)
        identity = jnp.eye(self.dim, dtype=mean.dtype)
        root = jax.scipy.linalg.solve_triangular(precision_root, identity, lower=True)
        return DenseMap(mean, root)

    def _parameters(self, context: Float[Array, " features"]) -> tuple[Vector, Vector, Array]:
        """The mean, the logarithms of the diagonal of $A$, and $A$ itself."""
        hidden = self.input_layer(context)
        for layer in self.hidden_layers:
            hidden = hidden + layer(jax.nn.silu(hidden))
        output = self.output_layer(jax.nn.silu(hidden)) + self.direct_layer(context)
        mean, log_diagonal, below = jnp.split(output, [self.dim, 2 * self.dim])
        unit = jnp.eye(self.dim, dtype=output.dtype).at[jnp.tril_indices(self.dim, -1)].set(below)
        return mean, log_diagonal, jnp.exp(log_diagonal)[:, None] * unit


def negative_log_likelihood(
    rng_key: RNGKey, normal: ConditionalNormal, samples: Samples, *, num_draws: int = 256
) -> tuple[Scalar, SampleLosses]:
    """Minus the mean log density, in nats, of draws that each have a context."""
    batch = samples.minibatch(rng_key, num_draws)
    assert batch.context is not None
    losses = -jax.vmap(normal.log_prob)(batch.position, batch.context)
    return jnp.mean(losses), SampleLosses(losses)
