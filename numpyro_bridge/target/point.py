"""A position and what a target knows there: log density, score, and the prior where it is asked."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float

REPLACED_LOG_DENSITY = -1e10
"""Takes the place of a log density that is not finite.

An importance weight of exp(-1e10) is exactly zero in every precision, the number itself is exact in
float32 (1e10 = 2^10 · 5^10), and its square, which variance losses take, stays far below the
largest float32 even when summed over millions of trajectories.
"""


class Prior(NamedTuple):
    """The prior at a position, for samplers that start from it.

    >>> target = nb.target_from_model(key, model, x, y=y).with_prior()
    >>> target.at(jnp.array([1.0, 2.0])).prior.score.tolist()
    [-1.0, -2.0]
    """

    log_density: Float[Array, ""]
    """Normalised, in nats. Always finite, like the log density of a `Point`."""
    score: Float[Array, " dim"]
    """The gradient of the prior's log density. Always finite."""


class Point(NamedTuple):
    """A position and what is costly to know about it, evaluated once.

    >>> point = target.at(jnp.array([3.0, 4.0]))
    >>> float(point.log_density), point.score.tolist()
    (-12.5, [-3.0, -4.0])
    """

    position: Float[Array, " dim"]
    log_density: Float[Array, ""]
    """Unnormalised, in nats. Always finite: `REPLACED_LOG_DENSITY` where it was not."""
    score: Float[Array, " dim"]
    """The gradient of the log density. Always finite: zeros where `finite` is False."""
    finite: Bool[Array, ""]
    """False where the log density or an entry of the score was not finite, and was replaced."""
    momentum: Float[Array, " dim"] | None = None
    """Set by the samplers whose states have one; the target knows nothing of it."""
    prior: Prior | None = None
    """Set by targets that were asked for it, see `Target.with_prior`."""
