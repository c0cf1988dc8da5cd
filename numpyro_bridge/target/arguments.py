"""The arguments of a model, cut into arrays, which compiled code takes, and a hashable rest.

Code that was compiled for some arguments runs on others of the same shapes: their arrays are
passed in, and everything else (numbers, strings, functions, data frames) is a constant of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from numpyro_bridge._core.devices import untyped
from numpyro_bridge._core.sameness import Same


class Skeleton(NamedTuple):
    """What is left of a pytree when its arrays are taken out; hashable.

    Two skeletons are equal if code compiled for one may be used for the other.
    """

    structure: Any
    constants: tuple[Same | None, ...]
    """One for each leaf; None where an array was."""

    def filled_with(self, arrays: tuple[Array, ...]) -> Any:
        """Rebuild the pytree."""
        rest = iter(arrays)
        leaves = [next(rest) if const is None else const.value for const in self.constants]
        return jax.tree.unflatten(self.structure, leaves)

    def __reduce__(self) -> tuple[Callable[[Any], "Skeleton"], tuple[Any]]:
        """Pickle the pytree itself, because its structure is pickled with parts of Equinox."""
        leaves = [_AnArray if const is None else const for const in self.constants]
        return _skeleton_of, (jax.tree.unflatten(self.structure, leaves),)


class _AnArray:
    """Stands for an array in the pickle of a skeleton."""


def _skeleton_of(tree: Any) -> Skeleton:
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda leaf: isinstance(leaf, Same))
    return Skeleton(structure, tuple(None if leaf is _AnArray else leaf for leaf in leaves))


def take_out_arrays(tree: Any, keep_constant: bool = False) -> tuple[tuple[Array, ...], Skeleton]:
    """Separate the arrays of a pytree, as JAX arrays, from its skeleton.

    Args:
        tree: any pytree.
        keep_constant: leave the arrays in the skeleton, as they are. Compiled code then has their
            numbers, and is compiled anew for other arrays.
    """
    leaves, structure = jax.tree.flatten(tree, is_leaf=has_unsortable_keys)
    taken = [not keep_constant and _is_numeric_array(leaf) for leaf in leaves]
    pairs = list(zip(leaves, taken, strict=True))
    arrays = tuple(untyped(jnp.asarray(leaf)) for leaf, is_taken in pairs if is_taken)
    constants = tuple(None if is_taken else Same(leaf) for leaf, is_taken in pairs)
    return arrays, Skeleton(structure, constants)


def holds_tracers(tree: Any) -> bool:
    """Whether some number of a pytree is not known yet, because JAX is tracing the code."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _is_numeric_array(leaf: Any) -> bool:
    """Whether this holds numbers or JAX keys: not strings, dates or objects.

    NumPy scalars stay numbers, which may set the size of a plate.
    """
    kinds = (jnp.number, jnp.bool_, jax.dtypes.extended)
    is_array = isinstance(leaf, jax.Array | np.ndarray)
    return is_array and any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def has_unsortable_keys(node: Any) -> bool:
    """Whether this is a dictionary that JAX cannot flatten."""
    if not isinstance(node, dict):
        return False
    try:
        sorted(node)
    except TypeError:
        return True
    return False
