"""A place at which log densities are zero, where they are too large for their differences.

A model of 100,000 rows has a log density of about -100,000, and in 32 bits such numbers are
0.008 apart. Weights are differences of them, and would come in steps. What is subtracted from every
row is its own log density at one place near the top: the small differences are then summed, and the
large constant is kept apart, in double precision. It is added again where a result is told.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.types import Scalar, Vector

Terms = dict[str, Array]
"""Parts of a log density by name, such as one number for each row of each site."""


class Reference(eqx.Module):
    """A position, and all parts of the log density there."""

    position: Vector
    terms: Terms
    total: Float[Array, "2"]
    """The sum of all parts, as a number and what rounding it left out."""

    @property
    def log_scale(self) -> float:
        """The sum of all parts, in nats and double precision; not inside compiled code."""
        return float(np.sum(np.asarray(self.total, np.float64)))

    @property
    def resolution(self) -> float:
        """Distance of neighbouring numbers as large as the largest part, in nats."""
        largest = max(jnp.max(jnp.abs(term)) for term in self.terms.values() if term.size)
        return spacing(float(largest))

    def difference(self, terms: Terms) -> Scalar:
        """The sum of what the parts have more than here."""
        return total([term - self.terms[name] for name, term in terms.items()])

    def sum_of(self, names: list[str]) -> Scalar:
        """The sum of some of the parts here."""
        return total([self.terms[name] for name in names])


def total(arrays: list[Array]) -> Scalar:
    """The sum of all numbers in all arrays."""
    return jnp.asarray(sum((jnp.sum(array) for array in arrays), start=0.0))


def reference_at(position: Vector, terms_at: Callable[[Vector], Terms]) -> Reference:
    """Evaluate the parts at a position, and sum them in double precision."""
    terms = terms_at(position)
    whole = float(sum(np.sum(np.asarray(term, np.float64)) for term in terms.values()))
    high = np.asarray(whole, position.dtype)
    return Reference(position, terms, jnp.asarray([high, whole - float(high)], position.dtype))


def spacing(value: float) -> float:
    """The distance of a number to the next larger one, in the precision that JAX works in."""
    return float(np.spacing(np.asarray(abs(value), jnp.result_type(float))))
