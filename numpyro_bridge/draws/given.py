"""Draws that a user passes in, as positions and weights."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import described
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.target import Target


def positions_and_weights(
    target: Target, draws: Any
) -> tuple[Float[Array, "num dim"], Float[Array, " num"]]:
    """Bring draws into unconstrained positions, one a row, and log weights.

    Only `Draws` have weights; for others the log weights are zero.

    Args:
        target: The target that the draws come from.
        draws: `Draws`, or values of the latent sites by name, such as `mcmc.get_samples()`, or an
            ArviZ object with a group `posterior`, or unconstrained positions.

    Raises:
        ValueError: if a latent site is missing, or shapes disagree, or values are given by name for
            a target without sites.
    """
    dtype = jnp.result_type(float)
    if isinstance(draws, Draws):
        if draws.position.shape[1] != target.dim:
            raise ValueError(
                f"draws: they have {draws.position.shape[1]} dimensions and the target "
                f"{target.dim}: they are of another model"
            )
        return jnp.asarray(draws.position, dtype), jnp.asarray(draws.log_weight, dtype)
    if hasattr(draws, "posterior"):
        draws = _by_name(draws.posterior)
    if isinstance(draws, Mapping):
        values = {name: _as_numbers(value) for name, value in draws.items()}
        if any(value.ndim == 0 for value in values.values()):
            raise ValueError("draws should have one row for each draw, got a single number")
        if len({value.shape[:1] for value in values.values()}) > 1:
            raise ValueError(
                "draws should have one row for each draw, equally many for every site, got "
                f"{ {name: value.shape for name, value in values.items()} }"
            )
        positions = jax.vmap(target.unconstrain)(values)
    else:
        positions = jnp.asarray(_as_numbers(draws), dtype)
    if positions.ndim != 2 or positions.shape[1] != target.dim:
        raise ValueError(
            f"draws: positions should have shape (num, {target.dim}), got {positions.shape}"
        )
    if len(positions) == 0:
        raise ValueError("draws are empty: there should be one row for each draw")
    return positions, jnp.zeros(len(positions), dtype)


def _by_name(posterior: Any) -> dict[str, np.ndarray]:
    """The values in a group of an ArviZ object, those of all chains in one row after the other."""
    values = {str(name): np.asarray(array) for name, array in posterior.data_vars.items()}
    return {name: value.reshape(-1, *value.shape[2:]) for name, value in values.items()}


def _as_numbers(values: Any) -> Array:
    """An array of JAX of what a user gave as one."""
    try:
        found = values.dtype if hasattr(values, "dtype") else np.asarray(values).dtype
    except (ValueError, TypeError):  # rows of different lengths, or groups of an ArviZ object
        found = np.dtype(object)
    is_real = jnp.issubdtype(found, np.integer) or jnp.issubdtype(found, jnp.floating)
    if not (is_real or jnp.issubdtype(found, np.bool_)):
        raise ValueError(
            "draws must be values by the names of sites, such as mcmc.get_samples(), or what a "
            f"sampler drew, or positions as rows of an array, got {described(values)}"
        )
    return jnp.asarray(values)
