"""The divergence that a bent map is fitted by, through gradients at its own draws.

A fit raises the ELBO: it minimises the reverse Kullback-Leibler divergence, by gradients that lose
their noise as the fit becomes perfect (Roeder et al. 2017, arXiv:1703.09194). That finds the shape
fast, but leaves the far ends of a posterior out rather than cover too much. So a covering fit goes
on to minimise the forward divergence, which charges for what is left out. Its gradient is the same
one with every draw multiplied by its weight (Tucker et al. 2019, arXiv:1810.04152), and loses its
noise in the same way.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.coupling import Coupling
from numpyro_bridge.atlas.radial import Radial
from numpyro_bridge.target import Target

BATCH = 256
"""Draws in each step of a fit."""

WIDER, LONGEST = 1.5, 10.0
"""Half of the draws of a wide fit are so much wider in the coordinates that steer, and no score is
longer than that of a standard normal times the second number.

The gradient of what is steered by them is right for any value of these coordinates, and that of the
coordinates themselves vanishes for the right map, whatever it is evaluated at. So the neck of a
funnel is fitted farther down than draws go. A piece of a posterior ends where another chart is
responsible, and is not fitted in this way.
"""

LARGEST_PULL, LEAST_PULL = 2.0, 0.1
"""In a covering fit weights are cut at so many times their mean, so that a few large ones do not
decide alone. No draw pulls less than the second share of an average one, so that draws where the
target has nothing are still drawn back."""


class Bent(eqx.Module):
    """What is trained: a stretch, a coupling, then a square factor and a shift."""

    location: Vector
    factor: Float[Array, "dim dim"]
    coupling: Coupling
    radial: Radial

    def __call__(self, noise: Vector) -> Vector:
        return self.location + self.factor @ self.coupling(self.radial(noise))

    def log_det(self, noise: Vector) -> Scalar:
        """Log determinant of the derivative at noise, up to that of the factor."""
        return self.coupling.log_det(self.radial(noise)) + self.radial.log_det(noise)


class Noise(NamedTuple):
    """Draws of noise, half of which may be wider in the coordinates that steer."""

    position: Float[Array, "draws dim"]
    log_excess: Vector
    """Log of how much less often standard normal noise would be there."""


def draw_noise(rng_key: RNGKey, leading: Vector, width: Scalar) -> Noise:
    """A batch of noise and its mirror image."""
    noise = jax.random.normal(rng_key, (BATCH // 2, leading.size), leading.dtype)
    every_other = jnp.arange(BATCH // 2)[:, None] % 2 == 0
    noise = noise * jnp.where(every_other & (leading > 0), width, 1.0)
    square = jnp.sum(leading * noise**2, axis=1)
    # The log of the wider density over that of standard normal noise.
    log_ratio = 0.5 * square * (1 - width**-2) - jnp.sum(leading) * jnp.log(width)
    log_excess = jnp.logaddexp(0.0, log_ratio) - math.log(2)
    return Noise(jnp.concatenate([noise, -noise]), jnp.concatenate([log_excess, log_excess]))


def loss(
    bent: Bent, target: Target, noise: Noise, longest: Scalar, cover: Bool[Array, ""]
) -> Scalar:
    """A function whose gradient is that of a divergence through the draws alone.

    It is the forward divergence, with the weights bounded, where the fit should cover the target,
    and minus the ELBO elsewhere. No draw pulls harder than by a vector of the length `longest`, in
    the coordinates of the noise.

    The slope of the map's own log density at a draw follows from that at the noise, without any
    inverse of the bent parts (Vaitl et al. 2024, arXiv:2403.15881).
    """
    held = jax.lax.stop_gradient(bent)
    inverse_factor = jnp.linalg.inv(held.factor)

    def along(noise):
        position = bent(noise)
        log_det, slope_of_det = jax.value_and_grad(held.log_det)(noise)
        slope = -noise - slope_of_det
        stretched = held.radial(noise)
        slope = held.coupling.solve(stretched, held.radial.solve(noise, slope))
        point = target.at(jax.lax.stop_gradient(position))
        ascent = point.score - slope @ inverse_factor
        length = jnp.linalg.norm(ascent @ held.factor)
        ascent = ascent * (longest / jnp.maximum(length, longest))
        log_weight = point.log_density + log_det + 0.5 * noise @ noise
        return jax.lax.stop_gradient(ascent) @ position, log_weight

    pulled, log_weight = jax.vmap(along)(noise.position)
    pull = jnp.where(cover, pull_of(log_weight - noise.log_excess), 1.0)
    return -jnp.mean(jax.lax.stop_gradient(pull) * pulled)


def pull_of(log_weight: Float[Array, " draws"]) -> Float[Array, " draws"]:
    """How hard draws pull, by their weights, relative to the average."""
    pull = jnp.minimum(log_weight.size * jax.nn.softmax(log_weight), LARGEST_PULL)
    return LEAST_PULL + (1 - LEAST_PULL) * pull / jnp.mean(pull)
