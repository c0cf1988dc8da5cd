"""A loss over several charts: that of every chart, weighted by the chart's share of the draws."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_function
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.objectives.base import Objective
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.trajectories.trajectory import Trajectory

FEWEST = 2
"""Trajectories on each chart at least: many losses compare trajectories with each other."""


class ChartedRuns(NamedTuple):
    """Trajectories on every chart, and the share of the draws that each chart makes.

    >>> runs = nb.trajectories.simulate_many(key, process, target, 8)
    >>> runs = jax.tree.map(lambda leaf: leaf.reshape(2, 4, *leaf.shape[1:]), runs)
    >>> nb.objectives.ChartedRuns(runs, jnp.log(jnp.array([0.7, 0.3]))).log_weight.shape
    (2, 4)
    """

    runs: Trajectory
    """Leading axes: charts, trajectories."""
    log_share: Float[Array, " charts"]
    """Log of the charts' shares, which add up to one."""

    @property
    def log_weight(self) -> Float[Array, "charts num"]:
        """Log weight of the chart and the path, in nats, which counts the choice of the chart."""
        return self.runs.log_weight - self.log_share[:, None]

    @property
    def share(self) -> Float[Array, "charts num"]:
        """How much each trajectory counts in an average over the forward chains; adds up to one."""
        num = self.runs.log_weight.shape[1]
        return jnp.broadcast_to(jnp.exp(self.log_share)[:, None] / num, self.runs.log_weight.shape)


class OverCharts(eqx.Module):
    r"""A loss over trajectories that also takes a target of several charts.

    >>> loss = partial(nb.objectives.OverCharts(nb.reverse_kl_ld), num_trajectories=256)

    With shares $p_k$ and the loss $\mathcal{L}_k$ of chart $k$ it is $\sum_k p_k \mathcal{L}_k$.
    For the reverse divergence that is the divergence of the whole, up to a constant:

    $$-\mathrm{ELBO} = \sum_k p_k \left(-\mathrm{ELBO}_k + \log p_k\right).$$

    The trajectories are divided evenly among the charts, since all of them are trained. On a single
    chart nothing is added to the loss.

    Args:
        objective: The loss on one chart, such as `nb.reverse_kl_ld`.
    """

    objective: Objective

    def __check_init__(self) -> None:
        check_function("objective", self.objective, "nb.reverse_kl_ld")

    def __call__(
        self,
        rng_key: RNGKey,
        process: AbstractProcess[Any],
        target: SeenTarget,
        *,
        num_trajectories: int,
        **settings: Any,
    ) -> tuple[Scalar, Trajectory | ChartedRuns]:
        """The loss, and the trajectories it was estimated from.

        Args:
            rng_key: Randomness of the batch.
            process: The two chains; for several charts one for each of them, stacked.
            target: The target on one chart or several.
            num_trajectories: Batch size, of all charts together; each has two at least.
            **settings: Further settings of the loss.
        """
        if not isinstance(target, ChartedTarget):
            return self.objective(
                rng_key, process, target, num_trajectories=num_trajectories, **settings
            )
        arrays, static = eqx.partition(process, eqx.is_array)
        # The rows of the process are not padded, those of the charts may be.
        num_charts = len([*jax.tree.leaves(arrays), target.log_share][0])
        num_each = max(FEWEST, num_trajectories // num_charts)

        def on_chart(key, one, number):
            piece = target.chart(number)
            mine = eqx.combine(one, static)
            return self.objective(key, mine, piece, num_trajectories=num_each, **settings)

        keys = jax.random.split(rng_key, num_charts)
        values, runs = jax.vmap(on_chart)(keys, arrays, jnp.arange(num_charts))
        log_share = target.log_share[:num_charts]
        return jnp.exp(log_share) @ values, ChartedRuns(runs, log_share)
