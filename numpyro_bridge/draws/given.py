"""Draws that a user passes in, as positions and weights."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.target import Target


def positions_and_weights(
    target: Target, draws: Any
) -> tuple[Float[Array, "num dim"], Float[Array, " num"]]:
    """Bring draws into unconstrained positions, one a row, and log weights.

    Only `Draws` have weights; for others the log weights are zero.

    Args:
        target: The target that the draws come from.
        draws: `Draws`, or values of the latent sites by name, such as `mcmc.get_samples()`, or
            unconstrained positions.

    Raises:
        ValueError: if a latent site is missing, or shapes disagree, or values are given by name for
            a target without sites.
    """
    dtype = jnp.result_type(float)
    if isinstance(draws, Draws):
        if draws.position.shape[1] != target.dim:
            raise ValueError(
                f"the draws have {draws.position.shape[1]} dimensions and the target "
                f"{target.dim}: they are of another model"
            )
        return jnp.asarray(draws.position, dtype), jnp.asarray(draws.log_weight, dtype)
    if isinstance(draws, Mapping):
        values = {name: jnp.asarray(value) for name, value in draws.items()}
        if len({value.shape[:1] for value in values.values()}) > 1:
            raise ValueError(
                "draws should have one row for each draw, equally many for every site, got "
                f"{ {name: value.shape for name, value in values.items()} }"
            )
        positions = jax.vmap(target.unconstrain)(values)
    else:
        positions = jnp.asarray(draws, dtype)
    if positions.ndim != 2 or positions.shape[1] != target.dim:
        raise ValueError(f"positions should have shape (num, {target.dim}), got {positions.shape}")
    return positions, jnp.zeros(len(positions), dtype)
