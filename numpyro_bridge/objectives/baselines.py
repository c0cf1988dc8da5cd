"""What is subtracted from the factors of a log-derivative gradient to take away its noise.

Both quantities are estimated, for each trajectory, from the others of the batch, which keeps the
gradient unbiased. No gradient flows through them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge.objectives.sampling import Batch

SMALLEST_ESS = 0.1
"""Effective sample size, as a share of the batch, below which no control variate is used."""


def advantage(batch: Batch) -> Float[Array, " num"]:
    """The cost of each trajectory, `-log_weight`, minus the mean cost of the others.

    The mean is weighted by `batch.weight`, which makes it an average over the forward chain.
    """
    cost = jax.lax.stop_gradient(-batch.runs.log_weight)
    share = batch.weight / jnp.sum(batch.weight)
    others = jnp.maximum(1 - share, jnp.finfo(share.dtype).tiny)
    return (cost - share @ cost) / others


def control_variate(batch: Batch) -> Float[Array, " num"]:
    """A multiple of each weight, to be subtracted from the factor of the backward chain's score.

    Over the backward chain, the gradient of its own log density averages to zero. Over the forward
    chain it does so once it is multiplied by the weight. Any multiple of the weight may therefore
    be subtracted from the factor of that gradient without changing the mean. The multiple that
    leaves the least variance is the mean weight over the mean squared weight, which is one if all
    weights are equal. It is zero where the weights are so unequal that they say little.
    """
    log_weight = jax.lax.stop_gradient(batch.runs.log_weight)
    weight = jnp.exp(log_weight - jnp.max(log_weight))
    first, second = (
        jnp.sum(moment) - moment for moment in (batch.weight * weight, batch.weight * weight**2)
    )
    second = jnp.maximum(second, jnp.finfo(second.dtype).tiny)
    equal_enough = first**2 > SMALLEST_ESS * len(first) * second
    return jnp.where(equal_enough, weight * first / second, 0.0)
