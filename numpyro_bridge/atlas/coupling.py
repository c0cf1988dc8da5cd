r"""A map that bends: scales and places of most directions follow a few of them.

Many posteriors are funnels: how wide the effects of a hierarchy are depends on the scale parameter
above them, and no affine map can undo that. An affine coupling (Dinh et al. 2017, arXiv:1605.08803)
can. Its first coordinates, $a$, steer: each other one, $b_j$, becomes $b_j \exp(s_j(a)) + t_j(a)$,
where $s$ and $t$ are small networks. Before that every coordinate gets a skew and tails of its
own. All is invertible in closed form.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.layers import Linear
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap

REACH = 5.0
"""Standard deviations of noise within which $s$ and $t$ follow $a$; beyond, they stay."""

FARTHEST = 1e5
"""Standard deviations of noise beyond which the powers of the tails may overflow float32."""

NUM_HIDDEN = 32
"""Units of the networks."""

LARGEST_POWER = 2.0
"""Of the tails, before skewing; its inverse is the smallest."""

MOST_SKEW = 0.95
"""Largest share by which the powers of the two tails differ from their mean."""


class Shape(eqx.Module):
    r"""Skew and tails of each coordinate by itself; zeros are the identity.

    In $t = \mathrm{arsinh}(x)$, where powers are slopes, the map is
    $t \mapsto \kappa t + \beta (\sqrt{1 + t^2} - 1)$: the tails become the powers
    $\kappa \pm \beta$ of those of the noise. It extends the transformation of Jones and Pewsey
    (2009, doi:10.1093/biomet/asp053), in which both tails are alike.
    """

    tail: Vector
    """Logarithm of the mean power, bounded when used."""
    skew: Vector
    """Of the powers, bounded when used."""

    def __init__(self, dim: int):
        """One that changes nothing yet."""
        self.tail = self.skew = jnp.zeros(dim, jnp.result_type(float))

    def __call__(self, noise: Vector) -> Vector:
        """The shaped vector."""
        return _sinh_and_cosh(self._bent(_arcsinh(noise)))[0]

    def inverse(self, shaped: Vector) -> Vector:
        """The noise of a shaped vector: the root of a quadratic equation."""
        power, skew = self._power_and_skew
        moved = _arcsinh(shaped) + skew
        determinant = power**2 - skew**2
        t = (power * moved - skew * jnp.sqrt(moved**2 + determinant)) / determinant
        return _sinh_and_cosh(t)[0]

    def log_det(self, noise: Vector) -> Scalar:
        """Log determinant of the derivative at a vector of noise."""
        power, skew = self._power_and_skew
        t = _arcsinh(noise)
        stretch = power + skew * t / jnp.sqrt(1 + t**2)
        cosh = _sinh_and_cosh(self._bent(t))[1]
        return jnp.sum(jnp.log(stretch * cosh / jnp.sqrt(1 + noise**2)))

    def _bent(self, t: Vector) -> Vector:
        power, skew = self._power_and_skew
        return power * t + skew * _hinge(t)

    @property
    def _power_and_skew(self) -> tuple[Vector, Vector]:
        power = jnp.exp(math.log(LARGEST_POWER) * jnp.tanh(self.tail))
        return power, MOST_SKEW * power * jnp.tanh(self.skew)


class Coupling(eqx.Module):
    """From noise to noise of another shape, in which some coordinates steer the others.

    Args:
        rng_key: Randomness of the hidden units.
        dim: Length of the vectors.
        num_leading: How many coordinates steer, from the front.
    """

    shape: Shape
    hidden: Linear
    """Of the steering coordinates; its units are hyperbolic tangents."""
    log_scale: Linear
    """Of the other coordinates, from the steering ones and the units: these level off far out."""
    shift: Linear
    """Likewise."""

    def __init__(self, rng_key: RNGKey, dim: int, num_leading: int):
        """One that changes nothing yet."""
        weight_key, bias_key = jax.random.split(rng_key)
        self.shape = Shape(dim)
        hidden = Linear(weight_key, num_leading, NUM_HIDDEN, math.sqrt(num_leading))
        # Units that all bend at zero could not tell left from right.
        bias = jax.random.normal(bias_key, (NUM_HIDDEN,), hidden.bias.dtype)
        self.hidden = eqx.tree_at(lambda layer: layer.bias, hidden, bias)
        rest = dim - num_leading
        self.log_scale = Linear(rng_key, num_leading + NUM_HIDDEN, rest, gain=0.0)
        self.shift = Linear(rng_key, num_leading + NUM_HIDDEN, rest, gain=0.0)

    def __call__(self, noise: Vector) -> Vector:
        """The bent vector."""
        lead, rest = self._divided(self.shape(noise))
        log_scale, shift = self._steered(noise)
        return jnp.concatenate([lead, rest * jnp.exp(log_scale) + shift])

    def inverse(self, bent: Vector) -> Vector:
        """The noise of a bent vector."""
        lead, rest = self._divided(bent)
        # The steering coordinates are known at once, whatever the others are.
        log_scale, shift = self._steered(self.shape.inverse(bent))
        return self.shape.inverse(jnp.concatenate([lead, (rest - shift) * jnp.exp(-log_scale)]))

    def log_det(self, noise: Vector) -> Scalar:
        """Log determinant of the derivative at a vector of noise."""
        log_scale, _ = self._steered(noise)
        return self.shape.log_det(noise) + jnp.sum(log_scale)

    def _divided(self, vector: Vector) -> tuple[Array, Array]:
        num_leading = self.hidden.weight.shape[0]
        return vector[:num_leading], vector[num_leading:]

    def _steered(self, noise: Vector) -> tuple[Array, Array]:
        """Log scales and places of the other coordinates."""
        steer, _ = self._divided(self.shape(_within_reach(noise)))
        features = jnp.concatenate([steer, jnp.tanh(self.hidden(steer))])
        return self.log_scale(features), self.shift(features)


class CouplingMap(AbstractMap):
    """A coupling, a rotation, and an affine map, one after the other."""

    affine: DenseMap
    rotation: Float[Array, "dim dim"]
    coupling: Coupling

    def __call__(self, standardised: Vector) -> Vector:
        return self.affine(self.coupling(standardised) @ self.rotation.T)

    def inverse(self, position: Vector) -> Vector:
        return self.coupling.inverse(self.affine.inverse(position) @ self.rotation)

    def log_det(self, standardised: Vector) -> Scalar:
        return self.affine.log_det(standardised) + self.coupling.log_det(standardised)

    def within_range(self, standardised: Vector) -> Bool[Array, ""]:
        return jnp.all(jnp.abs(standardised) < FARTHEST)  # False for NaN


def _arcsinh(x: Vector) -> Vector:
    """In one logarithm: that of JAX has branches, and this is called at every step of a bridge."""
    sign = _sign(x)
    size = sign * x
    return sign * jnp.log1p(size + size**2 / (1 + jnp.sqrt(1 + size**2)))


def _sinh_and_cosh(x: Vector) -> tuple[Vector, Vector]:
    """In one exponential."""
    sign = _sign(x)
    rise = jnp.expm1(sign * x)
    fall = rise / (1 + rise)  # 1 - exp(-|x|)
    return 0.5 * sign * (rise + fall), 0.5 * (rise - fall) + 1


def _sign(x: Vector) -> Vector:
    """Never zero, so that derivatives at zero are right."""
    return jnp.where(x < 0, -1.0, 1.0).astype(x.dtype)


def _hinge(vector: Vector) -> Vector:
    """Nearly |x| far out, smooth and zero at zero."""
    return jnp.sqrt(1 + vector**2) - 1


def _within_reach(noise: Vector) -> Vector:
    """The same to a few thousandths up to three standard deviations; never beyond `REACH`.

    A far state of a bridge in training then meets large numbers, but not exponentials of them.
    """
    share = jnp.clip(noise / REACH, -30.0, 30.0)  # whose eighth power no precision loses
    return REACH * share / (1 + share**8) ** (1 / 8)
