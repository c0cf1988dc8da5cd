"""BackwardRuns: the bridge run backward from posterior draws that another sampler made."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core import weights
from numpyro_bridge._core.quick_jit import full_jit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.trajectories.ends import draw_path_to


@dataclass(frozen=True, eq=False, repr=False)
class BackwardRuns:
    """Log weights of trajectories that end in given draws of the posterior.

    >>> backward = posterior.run_backward(key, draws)
    >>> round(draws.elbo, 1), round(backward.eubo, 1)
    (-12.9, -12.9)

    The weights of the forward chain know nothing of places that it never visits. These weights do:
    where the bridge has lost a mode, the draws in that mode have large weights here. All figures
    are only as good as the given draws.

    Attributes:
        log_weight: Shape `(num,)`, in nats.
        num_non_finite: Number of draws that were left out because they or their trajectories were
            not finite.
        log_scale: what was left out of the log weights, in nats; see `Draws`.
    """

    log_weight: Float[Array, " num"]
    num_non_finite: int = 0
    log_scale: float = 0.0

    def __repr__(self) -> str:
        """Show the upper bound and the effective sample size."""
        return f"BackwardRuns(eubo={self.eubo:.3f} ± {self.eubo_error:.3f}, ess={self.ess:.3f})"

    @cached_property
    def eubo(self) -> float:
        """Mean log weight in nats, an upper bound on the log evidence."""
        return float(weights.elbo(self.log_weight)[0]) + self.log_scale

    @cached_property
    def eubo_error(self) -> float:
        """Monte Carlo standard error of `eubo`, if the draws are independent."""
        return float(weights.elbo(self.log_weight)[1])

    @cached_property
    def log_evidence(self) -> float:
        """Estimate of the log evidence: minus the log of the mean inverse weight."""
        return self.log_scale - float(weights.log_evidence(-self.log_weight)[0])

    @cached_property
    def log_evidence_error(self) -> float:
        """Monte Carlo standard error of `log_evidence`, if the draws are independent."""
        return float(weights.log_evidence(-self.log_weight)[1])

    @cached_property
    def ess(self) -> float:
        """Effective sample size of the forward chain, as a share of its draws, in (0, 1].

        It is estimated from the given draws alone: the squared mean weight over the forward chain,
        divided by the mean squared weight. The latter is the evidence times the mean weight over
        the backward chain.
        """
        mean, mean_inverse = self.log_weight, -self.log_weight
        log_ess = -sum(weights.log_evidence(each)[0] for each in (mean, mean_inverse))
        return min(1.0, float(jnp.exp(log_ess)))


@full_jit
def backward_log_weights(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: SeenTarget,
    positions: Float[Array, "num dim"],
) -> tuple[Float[Array, " num"], Bool[Array, " num"]]:
    """Run one trajectory back from each position, given in the model's own coordinates.

    Returns:
        The log weights of the trajectories, and which of the trajectories are finite.
    """
    keys = jax.random.split(rng_key, len(positions))
    ends = jax.vmap(draw_path_to, in_axes=(0, None, None, 0))(keys, process, target, positions)
    return ends.log_weight, ends.finite
