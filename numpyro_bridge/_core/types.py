"""Shape names shared by every module, so that signatures read like the mathematics."""

from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Float, Key, PRNGKeyArray, UInt32

if TYPE_CHECKING:
    PyTree = Any  # that of jaxtyping is unknown to type checkers
else:
    from jaxtyping import PyTree as PyTree

Scalar = Float[Array, ""]
Vector = Float[Array, " dim"]
RNGKey = PRNGKeyArray | Key[Array, ""] | UInt32[Array, "2"]
"""A typed JAX key (`jax.random.key`) or a raw one (`jax.random.PRNGKey`): both are accepted."""
