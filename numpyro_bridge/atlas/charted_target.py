"""A target divided into charts: one standardised piece for each."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.atlas.coupling import CouplingMap
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap, lower_factor
from numpyro_bridge.atlas.partition import AbstractPartition, Piece
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import Target


class ChartedTarget(eqx.Module):
    """A target seen through several charts.

    >>> bimodal.target.num_charts
    2
    >>> bimodal.target.chart(0).to_model(jnp.zeros(2)).tolist()
    [2.0, 2.0]

    Its pieces add up to it, so that a draw is a chart and a place on it. Whoever draws from a chart
    and weights the draw with the chart's piece has to add minus the log of the chart's share.

    Args:
        base: The target in its own coordinates.
        maps: From the coordinates of each chart to those of `base`; stacked.
        partition: Says how far each chart is responsible for a position.
        log_share: Log of the share of the draws that each chart makes; minus infinity for rows that
            stand for no chart.
    """

    base: Target
    maps: AbstractMap
    partition: AbstractPartition
    log_share: Float[Array, " rows"]

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return self.base.dim

    @property
    def num_charts(self) -> int:
        """Number of charts."""
        return int(np.sum(np.isfinite(np.asarray(self.log_share))))

    def chart(self, number: Int[Array, ""] | int) -> StandardisedTarget:
        """The piece that one chart is responsible for, in the coordinates of the chart."""
        piece = Piece(self.base, self.partition, jnp.asarray(number))
        return StandardisedTarget(piece, row(self.maps, number))

    def whole(self) -> StandardisedTarget:
        """The undivided target, in coordinates of the mean and covariance of all charts."""
        normals: Any = self.maps.affine if isinstance(self.maps, CouplingMap) else self.maps
        share = jax.nn.softmax(self.log_share)
        mean = share @ normals.location
        apart = normals.location - mean
        # The root of the covariance, since small scales beside large ones would be lost in it.
        root = jnp.sqrt(share)[:, None, None] * normals.factor
        between = jnp.sqrt(share)[:, None] * apart
        root = jnp.concatenate([jnp.concatenate(root, axis=1), between.T], axis=1)
        return StandardisedTarget(self.base, DenseMap(mean, lower_factor(root)))

    def draw_chart(self, rng_key: RNGKey, position: Vector) -> Int[Array, ""]:
        """Draw the chart that a position of `base` is on, by the responsibilities."""
        return jax.random.categorical(rng_key, self.partition.log_responsibilities(position))
