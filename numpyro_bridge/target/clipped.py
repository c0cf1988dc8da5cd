"""A target whose scores are shortened where they are very long, for both chains alike."""

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge._core.types import Vector
from numpyro_bridge.target.base import Target, TargetWrapper
from numpyro_bridge.target.point import Point

SCORE_BOUND = 10.0
"""Root-mean-square entry beyond which scores are shortened, in standardised coordinates."""


class ClippedScore(TargetWrapper):
    """The same density, whose points carry scores of bounded length.

    Every sampler runs on such a target. Far from the posterior a score can be so long that one
    step of a chain would overflow. Both chains see the same shortened value, so weights
    stay exact; `log_density` and its derivatives are those of the target itself.

    Args:
        base: The target, in standardised coordinates.
        bound: Root-mean-square entry beyond which a score is shortened; positive.
    """

    base: Target
    bound: float = eqx.field(static=True)

    def __init__(self, base: Target, bound: float = SCORE_BOUND):
        self.base = base
        self.bound = bound

    def at(self, position: Vector) -> Point:
        point = self.base.at(position)
        prior = point.prior
        if prior is not None:
            prior = prior._replace(score=clipped_score(prior.score, bound=self.bound))
        return point._replace(score=clipped_score(point.score, bound=self.bound), prior=prior)


def clipped_score(score: Vector, *, bound: float) -> Vector:
    """Shorten a score whose root-mean-square entry exceeds `bound`; its direction is kept."""
    mean_square = jnp.mean(score**2)
    return score * jnp.minimum(1.0, bound * jax.lax.rsqrt(jnp.maximum(mean_square, bound**2)))
