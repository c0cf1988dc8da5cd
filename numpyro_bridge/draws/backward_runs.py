"""What the backward chain says, run from draws of the posterior that another sampler made."""

from dataclasses import dataclass
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws import weights
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.simulate import simulate_backward


@dataclass(frozen=True, eq=False, repr=False)
class BackwardRuns:
    """Log weights of trajectories that end in given draws of the posterior.

    The forward chain's own weights cannot see what it never visits. These can: a mode that the
    bridge lost has draws of large weight here. All figures are as good as the given draws are.

    Attributes:
        log_weight: Shape `(num,)`, in nats.
        num_non_finite: Draws left out, because they or their trajectories were not finite.
    """

    log_weight: Float[Array, " num"]
    num_non_finite: int = 0

    def __repr__(self) -> str:
        """The bound and what it was estimated from."""
        return f"BackwardRuns(eubo={self.eubo:.3f} ± {self.eubo_error:.3f}, ess={self.ess:.3f})"

    @cached_property
    def eubo(self) -> float:
        """Mean log weight, an upper bound on the log evidence, in nats."""
        return float(weights.elbo(self.log_weight)[0])

    @cached_property
    def eubo_error(self) -> float:
        """Its Monte Carlo standard error, for independent draws."""
        return float(weights.elbo(self.log_weight)[1])

    @cached_property
    def log_evidence(self) -> float:
        """Reverse estimate of the log evidence: minus the log of the mean inverse weight."""
        return -float(weights.log_evidence(-self.log_weight)[0])

    @cached_property
    def log_evidence_error(self) -> float:
        """Its Monte Carlo standard error, for independent draws."""
        return float(weights.log_evidence(-self.log_weight)[1])

    @cached_property
    def ess(self) -> float:
        """Effective share of forward draws, as the given draws see it, in (0, 1].

        The mean weight over the forward chain, squared, over the mean squared weight; the latter
        is the evidence times the mean weight over the backward chain.
        """
        return min(
            1.0, float(jnp.exp(self.log_evidence - weights.log_evidence(self.log_weight)[0]))
        )


@eqx.filter_jit
def backward_log_weights(
    rng_key: RNGKey, process: AbstractProcess, target: Target, positions: Float[Array, "num dim"]
) -> tuple[Float[Array, " num"], Bool[Array, " num"]]:
    """One trajectory from each position in the target's coordinates, and which are finite."""

    def run(key, position):
        trajectory = simulate_backward(key, process, target, position)
        return trajectory.log_weight, jnp.all(trajectory.states.finite)

    return jax.vmap(run)(jax.random.split(rng_key, len(positions)), positions)
