"""Maps of several charts as one module, whose arrays have a leading axis that counts the charts.

Compiled programs take the number of a chart as an argument. The leading axis is padded to one of a
few lengths, so that another number of charts rarely compiles anything anew.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge.atlas.coupling import CouplingMap, bent_alike
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap, WhitenedMap, inverse_of_lower
from numpyro_bridge.atlas.partition import MixturePartition, StudentPartition

LENGTHS = (1, 8, 64)
"""Lengths to which the leading axis is padded."""

Tree = TypeVar("Tree")

Index = int | np.integer | slice | np.ndarray | Array
"""What selects one row of an array, or several."""


def row(tree: Tree, index: Index) -> Tree:
    """One row of every array, or several; the index may be known only when compiled code runs."""
    return jax.tree.map(lambda leaf: _taken(leaf, index) if _is_array(leaf) else leaf, tree)


def stack(rows: Sequence[Tree]) -> Tree:
    """Modules of the same structure as one, with a leading axis."""
    return jax.tree.map(
        lambda *leaves: _stacked(leaves) if _is_array(leaves[0]) else leaves[0], *rows
    )


def joined(trees: Sequence[Tree]) -> Tree:
    """The rows of several modules that have a leading axis, one after the other."""
    return jax.tree.map(lambda *leaves: on_device(np.concatenate(_on_host(leaves))), *trees)


def padded(tree: Tree, num: int) -> Tree:
    """Repeat the last of `num` rows up to the next of the lengths."""
    return row(tree, np.minimum(np.arange(_length(num)), num - 1))


def padded_logs(logs: Float[np.ndarray, " charts"]) -> Float[Array, " rows"]:
    """Logs of masses or shares, with minus infinity for rows that stand for no chart."""
    missing = np.full(_length(len(logs)) - len(logs), -np.inf)
    return on_device(np.concatenate([logs, missing]), jnp.result_type(float))


def student_partition(
    normals: DenseMap, log_mass: Float[np.ndarray, " charts"]
) -> StudentPartition:
    """The partition by Student densities at the places and scales of normal distributions."""
    rows = whitened(padded(normals, len(log_mass)))
    return StudentPartition(padded_logs(log_mass - np.max(log_mass)), rows)


def mixture_partition(
    maps: Sequence[AbstractMap], log_share: Float[np.ndarray, " charts"]
) -> MixturePartition:
    """The partition by the densities that the maps make of standard normal noise."""
    return MixturePartition(padded_logs(log_share), in_rows(maps))


def standard_normal(dim: int) -> tuple[DenseMap, Float[np.ndarray, " 1"]]:
    """A single place, and the log of its mass: it stands for those that are not known yet."""
    dtype = jnp.result_type(float)
    only = DenseMap(on_device(np.zeros(dim), dtype), on_device(np.eye(dim), dtype))
    return stack([only]), np.zeros(1)


def in_rows(maps: Sequence[AbstractMap]) -> AbstractMap:
    """The maps in one form, stacked, padded, and with the inverses of their factors.

    Where one of them is bent, all are written as bent maps.
    """
    if any(isinstance(transform, CouplingMap) for transform in maps):
        maps = [bent_alike(transform) for transform in maps]
    return whitened(padded(stack(maps), len(maps)))


def whitened(maps: Any) -> Any:
    """Stacked maps with the inverses of their dense factors; other maps as they are."""
    if isinstance(maps, DenseMap):
        return _whiten_all(maps)
    if isinstance(maps, CouplingMap) and isinstance(maps.affine, DenseMap):
        return eqx.tree_at(lambda rows: rows.affine, maps, whitened(maps.affine))
    return maps


@brief_jit
def _whiten_all(normals: DenseMap) -> WhitenedMap:
    def whiten(normal: DenseMap) -> WhitenedMap:
        return WhitenedMap(normal.location, normal.factor, inverse_of_lower(normal.factor))

    return jax.vmap(whiten)(normals)


def _taken(leaf, index):
    # By NumPy where that can be, since each shape would be a compiled program of its own.
    if _is_known(leaf) and not isinstance(index, Tracer):
        return on_device(np.asarray(leaf)[np.asarray(index) if _is_array(index) else index])
    return jnp.asarray(leaf)[index]


def _stacked(leaves):
    if all(map(_is_known, leaves)):
        return on_device(np.stack(_on_host(leaves)))
    return jnp.stack(leaves)


def _on_host(leaves) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in leaves]


def _is_known(leaf) -> bool:
    """Whether NumPy can read an array: it is not traced, and not a key."""
    return not isinstance(leaf, Tracer) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _length(num: int) -> int:
    return next((length for length in LENGTHS if length >= num), num)
