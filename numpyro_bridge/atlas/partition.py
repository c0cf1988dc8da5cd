r"""The partition of unity that divides a target into pieces, one for each chart.

Every chart has a place, a scale and a mass $a_k$. Its responsibility for a position is its share of
a mixture of heavy-tailed Student densities $t_k$:

$$r_k(x) = \frac{a_k t_k(x)}{\sum_j a_j t_j(x)}, \qquad \sum_k r_k(x) = 1.$$

The pieces $\gamma(x) r_k(x)$ of a density $\gamma$ add up to it whatever the places, scales and
masses are: poor ones cost efficiency, and never correctness.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.atlas.maps import AbstractMap, WhitenedMap
from numpyro_bridge.target import REPLACED_LOG_DENSITY, Point, Target
from numpyro_bridge.target.base import TargetWrapper

DEGREES_OF_FREEDOM = 8.0
"""Degrees of freedom of the Student densities, whose tails are heavy enough that far away no chart
claims everything."""


class AbstractPartition(eqx.Module):
    """Divides positions among charts, by shares that add up to one.

    >>> class LeftAndRight(nb.atlas.AbstractPartition):
    ...     def log_responsibilities(self, position):
    ...         return jax.nn.log_sigmoid(jnp.stack([-position[0], position[0]]))
    >>> left = nb.atlas.Piece(target, LeftAndRight(), jnp.array(0))
    """

    @abc.abstractmethod
    def log_responsibilities(self, position: Vector) -> Float[Array, " charts"]:
        """Log of the share that each chart has in a position."""


class StudentPartition(AbstractPartition):
    """A partition by Student densities; the leading axis of every array counts the charts.

    >>> partition = bimodal.target.partition
    >>> int(jnp.argmax(partition.log_responsibilities(jnp.array([-2.0, -2.0]))))
    1
    """

    log_mass: Float[Array, " charts"]
    """Log of each mass, up to a constant; minus infinity for a row that stands for no chart."""
    normals: WhitenedMap

    def log_responsibilities(self, position: Vector) -> Float[Array, " charts"]:
        return _log_shares(self.log_mass, lambda: self._log_parts(position))

    def _log_parts(self, position: Vector) -> Float[Array, " charts"]:
        dim = position.size
        whitened = jax.vmap(lambda normal: normal.inverse(position))(self.normals)
        # So far away that a square would overflow, all charts are equally far.
        limit = jnp.finfo(whitened.dtype).max ** 0.4
        whitened = jnp.clip(whitened, -limit, limit)
        log_det = jax.vmap(lambda normal: normal.log_det_of_factor)(self.normals)
        power = -0.5 * (DEGREES_OF_FREEDOM + dim)
        square = jnp.sum(whitened**2, axis=1) / DEGREES_OF_FREEDOM
        return self.log_mass - log_det + power * jnp.log1p(square)


class MixturePartition(AbstractPartition):
    """The partition by the charts' own densities, for draws that no bridge carries any further.

    >>> partition = bimodal.atlas.target(bimodal.target.base, bridged=False).partition
    >>> int(jnp.argmax(partition.log_responsibilities(jnp.array([-2.0, -2.0]))))
    1

    With these responsibilities the weight of a draw is the density divided by that of the whole
    mixture of charts, whichever chart made the draw. Of all partitions this one gives the weights
    of the smallest variance (Veach and Guibas 1995 call it the balance heuristic).
    """

    log_share: Float[Array, " charts"]
    """Log of the share of the draws that each chart makes; minus infinity for no chart."""
    maps: AbstractMap
    """The leading axis of every array counts the charts."""

    def log_responsibilities(self, position: Vector) -> Float[Array, " charts"]:
        return _log_shares(self.log_share, lambda: self._log_parts(position))

    def log_density(self, position: Vector) -> Scalar:
        """Log density of the whole mixture, up to the constant of a standard normal."""
        return jax.nn.logsumexp(self._log_parts(position))

    def _log_parts(self, position: Vector) -> Float[Array, " charts"]:
        def on_chart(transform: AbstractMap) -> Scalar:
            noise = transform.inverse(position)
            # Far from a chart its inverse may overflow, and its density is nothing. Zeros take the
            # place of such noise, so that no derivative is NaN.
            near = jnp.all(jnp.isfinite(noise)) & transform.within_range(noise)
            noise = jnp.where(near, noise, 0.0)
            log_density = -0.5 * jnp.sum(noise**2) - transform.log_det(noise)
            return jnp.where(near & jnp.isfinite(log_density), log_density, -1e30)

        return self.log_share + jax.vmap(on_chart)(self.maps)


def _log_shares(
    of_all: Float[Array, " charts"], log_parts: Callable[[], Float[Array, " charts"]]
) -> Float[Array, " charts"]:
    """Logs of shares; a single chart has all of it, and nothing is evaluated or compiled."""
    return jnp.zeros_like(of_all) if of_all.size == 1 else jax.nn.log_softmax(log_parts())


class Piece(TargetWrapper):
    """The piece of a density that one chart is responsible for, in the same coordinates.

    >>> base, partition = bimodal.target.base, bimodal.target.partition
    >>> pieces = [nb.atlas.Piece(base, partition, jnp.array(chart)) for chart in (0, 1)]
    >>> first, second = (piece.log_density(jnp.ones(2)) for piece in pieces)
    >>> bool(jnp.allclose(jnp.logaddexp(first, second), base.log_density(jnp.ones(2))))
    True

    Args:
        base: The whole density.
        partition: Divides it.
        chart: The number of the chart, as an array, so that all charts share a compiled program.
    """

    base: Target
    partition: AbstractPartition
    chart: Int[Array, ""]

    def __init__(self, base: Target, partition: AbstractPartition, chart: Int[Array, ""]):
        self.base = base
        self.partition = partition
        self.chart = chart

    def at(self, position: Vector) -> Point:
        point = self.base.at(position)
        log_share, slope = jax.value_and_grad(self.log_share)(position)
        known = point.log_density > REPLACED_LOG_DENSITY
        return point._replace(
            log_density=jnp.where(known, point.log_density + log_share, REPLACED_LOG_DENSITY),
            score=jnp.where(point.finite, point.score + slope, 0.0),
        )

    def log_density(self, position: Vector) -> Scalar:
        whole = self.base.log_density(position)
        known = whole > REPLACED_LOG_DENSITY
        return jnp.where(known, whole + self.log_share(position), REPLACED_LOG_DENSITY)

    def log_responsibility(self, position: Vector) -> Scalar:
        return self.log_share(self.base.from_model(position))

    def log_share(self, position: Vector) -> Scalar:
        """Log of the chart's responsibility for a position."""
        return self.partition.log_responsibilities(position)[self.chart]
