"""Updates that are not finite, which every loop that trains something leaves out."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

Tree = TypeVar("Tree", bound=PyTree)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number of a tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def where(condition: Bool[Array, ""], yes: Tree, no: Tree) -> Tree:
    """The first of two trees of the same structure if the condition holds, else the second."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
