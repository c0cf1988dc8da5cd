r"""A map that bends: a few coordinates steer the scales and locations of the others.

Many posteriors are funnels: the scale parameter of a hierarchy decides how wide its effects are,
and no affine map can undo that. An affine coupling (Dinh et al. 2017, arXiv:1605.08803) can. Its
first coordinates, $a$, steer: every other coordinate, $b_j$, becomes $b_j \exp(s_j(a)) + t_j(a)$,
where $s$ and $t$ are small networks. Before that, each coordinate is given a skew and tails of its
own, which may be as heavy as those of a Student distribution. Every part can be inverted.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.layers import Linear
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.maps import AbstractAffineMap, AbstractDenseMap, AbstractMap
from numpyro_bridge.atlas.radial import Radial, along_axes, along_axes_inverse

REACH = 5.0
"""Standard deviations of noise up to which $s$ and $t$ vary with $a$; beyond, they level off."""

FARTHEST = 1e5
"""Standard deviations of noise beyond which the powers of the tails may overflow float32."""

NUM_HIDDEN = 32
"""Number of hidden units that the networks share."""

LARGEST_POWER = 2.0
"""Largest power of the tails of a coordinate before it is skewed; its inverse is the smallest."""

MOST_LEADING = 64
"""Largest number of steering coordinates."""

MOST_SKEW = 0.95
"""Largest relative difference between the power of one tail and the mean power of both."""


def most_leading(dim: int) -> int:
    """Largest number of coordinates that may steer: the more of them do, the fewer are steered."""
    return max(1, min(MOST_LEADING, dim // 2))


class Shape(eqx.Module):
    r"""Gives each coordinate a skew and tails of its own; it is the identity at first.

    First every coordinate is stretched, as in the module `radial`, which makes tails that are as
    heavy as those of a Student distribution. Then, in terms of $t = \mathrm{arsinh}(x)$, in which
    powers of $x$ are slopes, it is mapped by $t \mapsto \kappa t + \beta (\sqrt{1 + t^2} - 1)$: far
    out $x$ is raised to the power $\kappa + \beta$ on one side and $\kappa - \beta$ on the other.
    That extends the transformation of Jones and Pewsey (2009, doi:10.1093/biomet/asp053), which has
    the same power on both sides.
    """

    tail: Vector
    """Sets the mean power of the two tails; a hyperbolic tangent bounds it where it is used."""
    skew: Vector
    """Sets how far the two powers are apart; it is bounded in the same way."""
    heaviness: Vector
    """The rate of each coordinate's stretch, at least 0."""

    def __init__(self, dim: int):
        """Make one that changes nothing yet."""
        self.tail = self.skew = self.heaviness = jnp.zeros(dim, jnp.result_type(float))

    def __call__(self, noise: Vector) -> Vector:
        """The vector that noise is shaped into."""
        return self.unstretched(along_axes(noise, self.heaviness).position)

    def unstretched(self, noise: Vector) -> Vector:
        """The same without the stretch."""
        return _sinh_and_cosh(self._bent(_arcsinh(noise)))[0]

    def inverse(self, shaped: Vector) -> Vector:
        """The noise that is shaped into a vector, as the root of a quadratic equation."""
        power, skew = self._power_and_skew
        moved = _arcsinh(shaped) + skew
        determinant = power**2 - skew**2
        t = (power * moved - skew * jnp.sqrt(moved**2 + determinant)) / determinant
        return along_axes_inverse(_sinh_and_cosh(t)[0], self.heaviness)

    def log_slopes(self, noise: Vector) -> Vector:
        """Log of the derivative of every coordinate at a vector of noise."""
        power, skew = self._power_and_skew
        stretched = along_axes(noise, self.heaviness)
        t = _arcsinh(stretched.position)
        stretch = power + skew * t / jnp.sqrt(1 + t**2)
        cosh = _sinh_and_cosh(self._bent(t))[1]
        return stretched.log_slope + jnp.log(stretch * cosh / jnp.sqrt(1 + stretched.position**2))

    def _bent(self, t: Vector) -> Vector:
        power, skew = self._power_and_skew
        return power * t + skew * _hinge(t)

    @property
    def _power_and_skew(self) -> tuple[Vector, Vector]:
        power = jnp.exp(math.log(LARGEST_POWER) * jnp.tanh(self.tail))
        return power, MOST_SKEW * power * jnp.tanh(self.skew)


class Coupling(eqx.Module):
    """Bends noise: its first coordinates steer the scales and locations of the others.

    How many steer is a number and not a shape, so that couplings of the same dimension share
    compiled programs, and can be stacked.

    Args:
        rng_key: Randomness of the hidden units.
        dim: Length of the vectors.
        num_leading: How many coordinates steer, at most `most_leading(dim)`; they come first.
    """

    shape: Shape
    hidden: Linear
    """Reads the steering coordinates; hyperbolic tangents of its outputs are the hidden units."""
    log_scale: Linear
    """Log scales of the other coordinates, from the steering coordinates, their squares and the
    hidden units."""
    shift: Linear
    """Shifts of the other coordinates, from the same numbers."""
    leading: Vector
    """One for a coordinate that steers, zero for the others; it is not trained."""

    def __init__(self, rng_key: RNGKey, dim: int, num_leading: Int[Array, ""] | int):
        """Make one that changes nothing yet."""
        weight_key, bias_key = jax.random.split(rng_key)
        self.shape = Shape(dim)
        width = most_leading(dim)
        dtype = self.shape.tail.dtype
        self.leading = (jnp.arange(dim) < num_leading).astype(dtype)
        hidden = Linear(weight_key, width, NUM_HIDDEN, math.sqrt(width))
        # Without biases all units would bend at zero and could not tell left from right.
        bias = jax.random.normal(bias_key, (NUM_HIDDEN,), hidden.bias.dtype)
        self.hidden = eqx.tree_at(lambda layer: layer.bias, hidden, bias)
        self.log_scale = Linear(rng_key, 2 * width + NUM_HIDDEN, dim, gain=0.0)
        self.shift = Linear(rng_key, 2 * width + NUM_HIDDEN, dim, gain=0.0)

    def __call__(self, noise: Vector) -> Vector:
        """The vector that noise is bent into."""
        log_scale, shift = self._steered(noise)
        return self.shape(noise) * jnp.exp(log_scale) + shift

    def inverse(self, bent: Vector) -> Vector:
        """The noise that is bent into a vector."""
        # The steering coordinates are steered by none, so they are known before the others are.
        log_scale, shift = self._steered(self.shape.inverse(self._of_leading(bent)))
        return self.shape.inverse((bent - shift) * jnp.exp(-log_scale))

    def log_det(self, noise: Vector) -> Scalar:
        """Log determinant of the derivative at a vector of noise."""
        return jnp.sum(self._log_slopes(noise))

    def solve(self, noise: Vector, slope: Vector) -> Vector:
        """The product of the inverse of the derivative's transpose at noise, and a vector.

        The derivative is triangular: the coordinates that do not steer come first here, and what
        they take over from those that steer is a product that reverse mode gives.
        """
        _, pull = jax.vjp(self, noise)
        scales = jnp.exp(self._log_slopes(noise))
        steered = jnp.where(self.leading > 0, 0.0, slope / scales)
        (taken_over,) = pull(steered)
        return jnp.where(self.leading > 0, (slope - taken_over) / scales, steered)

    def _log_slopes(self, noise: Vector) -> Vector:
        """Log derivatives of all coordinates, each with respect to itself."""
        log_scale, _ = self._steered(noise)
        return self.shape.log_slopes(noise) + log_scale

    def _of_leading(self, vector: Vector) -> Vector:
        """The vector with zeros in place of the coordinates that do not steer."""
        return jnp.where(self.leading > 0, vector, 0.0)

    def _steered(self, noise: Vector) -> tuple[Vector, Vector]:
        """Log scales and shifts of all coordinates; zeros for those that steer."""
        shaped = self.shape.unstretched(_within_reach(self._of_leading(noise)))
        steer = shaped[: self.hidden.weight.shape[0]]
        # Squares, so that what bends like a parabola needs no hidden units.
        features = jnp.concatenate([steer, steer**2, jnp.tanh(self.hidden(steer))])
        rest = 1 - jax.lax.stop_gradient(self.leading)
        return rest * self.log_scale(features), rest * self.shift(features)


class CouplingMap(AbstractMap):
    """A radial stretch, a coupling, a rotation, and an affine map, one after the other."""

    affine: AbstractAffineMap
    rotation: Float[Array, "dim dim"]
    coupling: Coupling
    radial: Radial

    def __call__(self, standardised: Vector) -> Vector:
        return self.affine(self.coupling(self.radial(standardised)) @ self.rotation.T)

    def inverse(self, position: Vector) -> Vector:
        stretched = self.coupling.inverse(self.affine.inverse(position) @ self.rotation)
        return self.radial.inverse(stretched)

    def log_det(self, standardised: Vector) -> Scalar:
        stretched = self.radial(standardised)
        inner = self.coupling.log_det(stretched) + self.radial.log_det(standardised)
        return self.affine.log_det(standardised) + inner

    def within_range(self, standardised: Vector) -> Bool[Array, ""]:
        return jnp.all(jnp.abs(standardised) < FARTHEST)  # False for NaN


def bent_alike(transform: AbstractMap) -> CouplingMap:
    """A map in the form of bent ones: one that is affine gets a coupling that changes nothing."""
    if isinstance(transform, CouplingMap):
        return transform
    assert isinstance(transform, AbstractDenseMap)
    dim = transform.location.size
    coupling = Coupling(jax.random.key(0), dim, 1)
    dtype = transform.location.dtype
    return CouplingMap(transform, jnp.eye(dim, dtype=dtype), coupling, Radial(jnp.zeros((), dtype)))


def _arcsinh(x: Vector) -> Vector:
    """Inverse hyperbolic sine by a single logarithm.

    JAX's own version has branches, and this is evaluated at every step of a bridge.
    """
    sign = _sign(x)
    size = sign * x
    return sign * jnp.log1p(size + size**2 / (1 + jnp.sqrt(1 + size**2)))


def _sinh_and_cosh(x: Vector) -> tuple[Vector, Vector]:
    """Hyperbolic sine and cosine by a single exponential."""
    sign = _sign(x)
    rise = jnp.expm1(sign * x)
    fall = rise / (1 + rise)  # 1 - exp(-|x|)
    return 0.5 * sign * (rise + fall), 0.5 * (rise - fall) + 1


def _sign(x: Vector) -> Vector:
    """The sign, which is never zero, so that derivatives at zero are right."""
    return jnp.where(x < 0, -1.0, 1.0).astype(x.dtype)


def _hinge(vector: Vector) -> Vector:
    """A smooth function that is zero at zero and grows like |x| far out."""
    return jnp.sqrt(1 + vector**2) - 1


def _within_reach(noise: Vector) -> Vector:
    """The noise, smoothly limited to `REACH` standard deviations.

    Up to three standard deviations it changes by a few thousandths at most. A bridge in training
    may visit states that are far out; without the limit their scales would be exponentials of
    large numbers.
    """
    # Clipped, so that the eighth power is finite in every precision.
    share = jnp.clip(noise / REACH, -30.0, 30.0)
    return REACH * share / (1 + share**8) ** (1 / 8)
