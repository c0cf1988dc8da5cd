"""The modes that standardisation saw: which of them the draws of a bridge visit."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge.atlas.modes import Modes

MIN_MODE_SHARE = 1e-3
"""A mode with a smaller share of the draws than this counts as not visited."""


def shares_of_modes(
    modes: Modes, position: Float[Array, "num dim"], log_weight: Float[Array, " num"]
) -> Float[np.ndarray, " modes"]:
    """The share of weighted draws that is nearest to each mode."""
    nearest = np.asarray(_nearest_mode(modes.normals, position))
    weight = np.asarray(jax.nn.softmax(log_weight))
    return np.asarray([weight[nearest == mode].sum() for mode in range(len(modes.log_mass))])


def unvisited_modes(shares: Float[np.ndarray, " modes"]) -> Iterator[str]:
    """Warn of every mode that has hardly any draws."""
    for mode, share in enumerate(shares):
        if share < MIN_MODE_SHARE:
            yield (
                f"Mode {mode + 1} of the {len(shares)} that the starts found holds "
                f"{share:.2%} of the draws: the bridge has lost it, and neither the weights "
                "nor the evidence can see that."
            )


@jax.jit
def _nearest_mode(normals, position):
    """Index of the mode under whose normal distribution each position is likeliest."""

    def log_prob(normal, x):
        return -0.5 * jnp.sum(normal.inverse(x) ** 2) - normal.log_det_of_factor

    scores = jax.vmap(lambda x: jax.vmap(lambda normal: log_prob(normal, x))(normals))(position)
    return jnp.argmax(scores, axis=1)
