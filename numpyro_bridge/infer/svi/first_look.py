"""What a guide checks and chooses when it first sees its model."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jaxtyping import Array, Float

from numpyro_bridge._core.finite import all_finite
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.maps import AbstractAffineMap, as_dense, diagonal_map
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.infer.seeing import Standardise
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.target import ModelTarget
from numpyro_bridge.target.arguments import holds_tracers


def key_for(purpose: str) -> RNGKey:
    """A key of NumPyro's own randomness; a ValueError where the guide was given none."""
    rng_key = numpyro.prng_key()
    if rng_key is None:
        raise ValueError(
            f"AutoBridge needs randomness for {purpose}: wrap it, as in "
            "numpyro.handlers.seed(guide, rng_seed=0)"
        )
    return rng_key


def refuse_compiling(inputs: Any) -> None:
    """Raise a ValueError where the first call is inside compiled code, which sees no numbers."""
    if holds_tracers(inputs):
        raise ValueError(
            "AutoBridge reads and explores the model when it is first called, which cannot be done "
            "inside jax.jit, vmap or grad: call svi.init(rng_key, ...) outside, once, before "
            "anything is compiled"
        )


def refuse_sums(target: ModelTarget) -> None:
    """Raise a ValueError where discrete sites are summed out, whose values a guide would need."""
    if target.sums_out:
        raise ValueError(
            "AutoBridge cannot guide a model with discrete latent sites: a loss of SVI asks the "
            "guide for their values, and a bridge has none. Use nb.BridgeSampler(model), which "
            "sums them out, or write the sum into the model (numpyro.factor, "
            "dist.MixtureSameFamily)."
        )


def check_leaves(process: AbstractProcess[Any]) -> None:
    """Raise a ValueError unless all leaves can be trained by an optimiser of NumPyro."""
    leaves = jax.tree.leaves(process)
    others = [type(leaf).__name__ for leaf in leaves if not eqx.is_inexact_array(leaf)]
    if others:
        raise ValueError(
            f"{type(process).__name__} becomes one NumPyro parameter, so all its leaves should be "
            f"arrays of floats, but some are {sorted(set(others))}: declare them with "
            "eqx.field(static=True)"
        )


def refuse_non_finite(process: AbstractProcess[Any]) -> None:
    """Raise a ValueError where an update of SVI has spoilt the parameters."""
    if not bool(all_finite(process)):
        raise ValueError(
            "some of the guide's parameters are not finite, because an update of SVI was not: "
            "svi.run(..., stable_update=True) leaves out those whose loss or gradient is not "
            "finite; otherwise choose a smaller learning rate"
        )


def at_location(location: Float[Array, " dim"], scale: float) -> Standardise:
    """What chooses the map of a normal distribution at the place of an initialisation strategy."""
    location = location.astype(jnp.result_type(float))
    affine: AbstractAffineMap = diagonal_map(location, jnp.full_like(location, scale))
    chosen = Standardisation(as_dense(affine))
    return lambda rng_key, target: chosen
