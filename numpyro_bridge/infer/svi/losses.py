"""Objectives as losses of NumPyro's SVI, to train the guide `AutoBridge`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from numpyro_bridge._core.checks import check_count, check_objective
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge._core.untyped_bases import ELBO
from numpyro_bridge.infer.svi.auto_bridge import AutoBridge
from numpyro_bridge.objectives import OverCharts, log_variance, reverse_kl_ld
from numpyro_bridge.training.metrics import TrajectoryMetrics


class TraceObjective(ELBO):
    r"""An objective that reads trajectories, as a loss for `SVI`.

    >>> from numpyro.infer import SVI
    >>> loss = nb.TraceObjective(nb.reverse_kl_path, num_particles=128)
    >>> svi = SVI(model, nb.AutoBridge(model), nb.bridge_optimizer(), loss)

    The gradient is that of the objective. The value is minus the ELBO of the trajectories for every
    objective, so that the curves of different losses can be compared, also with `Trace_ELBO`.

    Args:
        objective: The objective, such as `nb.log_variance` or
            `partial(nb.log_variance, sampling=nb.objectives.widened)`.
        num_particles: Trajectories per iteration, of all charts together; each chart has at least
            two.
    """

    def __init__(self, objective: Callable[..., Any], num_particles: int = 256):
        check_objective(objective)
        super().__init__(check_count("num_particles", num_particles, 1))
        self.objective = objective

    def loss(
        self,
        rng_key: RNGKey,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Scalar:
        """Minus the ELBO, with the gradient of the objective.

        The guide holds the data; the arguments given here are only checked to be the same.

        Raises:
            TypeError: if the guide is not an `AutoBridge`, or the objective cannot train its
                process.
            ValueError: if the guide is that of another model, or was made for other data.
        """
        _check_guide(type(self).__name__, model, guide)
        guide.check_data(args, kwargs)
        process, target = guide.bridge(param_map)
        loss = OverCharts(self.objective)
        surrogate, runs = loss(rng_key, process, target, num_trajectories=self.num_particles)
        elbo = jnp.asarray(TrajectoryMetrics.of(runs, jnp.zeros(())).elbo)
        negative_elbo = jax.lax.stop_gradient(-elbo)
        return negative_elbo + (surrogate - jax.lax.stop_gradient(surrogate))


class TraceReverseKLLD(TraceObjective):
    """`nb.reverse_kl_ld`, the default of `BridgeSampler`, as a loss for `SVI`.

    >>> from numpyro.infer import SVI
    >>> svi = SVI(model, nb.AutoBridge(model), nb.bridge_optimizer(), nb.TraceReverseKLLD())

    It needs no gradient through the path, so that an iteration takes less time and memory than with
    `Trace_ELBO`, which measures the same divergence.

    Args:
        num_particles: Trajectories per iteration, at least 2.
    """

    def __init__(self, num_particles: int = 256):
        super().__init__(reverse_kl_ld, num_particles)


class TraceLogVariance(TraceObjective):
    """`nb.log_variance` as a loss for `SVI`.

    >>> from numpyro.infer import SVI
    >>> svi = SVI(model, nb.AutoBridge(model), nb.bridge_optimizer(), nb.TraceLogVariance())

    Args:
        num_particles: Trajectories per iteration, at least 2.
    """

    def __init__(self, num_particles: int = 256):
        super().__init__(log_variance, num_particles)


def _check_guide(loss: str, model: Callable[..., Any], guide: Any) -> None:
    if not isinstance(guide, AutoBridge):
        raise TypeError(
            f"{loss} compares whole paths and needs the guide that draws them, "
            f"nb.AutoBridge(model), but it was given {type(guide).__name__}; other guides are "
            "trained with numpyro.infer.Trace_ELBO"
        )
    if model is not guide.model:
        raise ValueError(
            f"{loss} reads the density off the guide, whose model is another function than the "
            "one given to SVI: make both with the same, as in SVI(model, nb.AutoBridge(model), ...)"
        )
