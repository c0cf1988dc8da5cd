"""Summarise a tree of modules and arrays, so that it can be compared without being kept."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

Moments = list[list[float]]
"""Four numbers for every array; see `_measures`."""


def class_names_of(module: Any) -> list[str]:
    """The class names of a module and of all modules in it."""
    names = []

    def visit(node: Any) -> bool:
        if isinstance(node, eqx.Module):
            names.append(type(node).__name__)
        return False

    jax.tree.leaves(module, is_leaf=visit)
    return names


def shapes_of(tree: Any) -> list[str]:
    """Path, type and shape of every array in a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return [f"{jax.tree_util.keystr(path)[1:]} {x.dtype}{[*x.shape]}" for path, x in leaves]


def moments_of(tree: Any) -> Moments:
    """Summarise every real array in a tree by a few numbers."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    arrays = [np.ravel(np.asarray(leaf, float)) for leaf in leaves if leaf.dtype.kind in "biuf"]
    return [_measures(array) for array in arrays if array.size]


def are_close(saved: Moments, now: Moments) -> bool:
    """Whether they differ by rounding at most, which depends on the machine and its threads."""
    if np.shape(saved) != np.shape(now):
        return False
    before, after = (np.reshape(np.asarray(x, float), (-1, 4)) for x in (saved, now))
    allowed = 1e-3 * before[:, 1:2] + 1e-6
    return bool(np.all(np.abs(before - after) <= allowed))


def _measures(array: np.ndarray) -> list[float]:
    """Count the finite values, and give their root mean square, mean, and a randomly weighted sum.

    The sum changes with the order of the values. Others than finite ones are allowed: some models
    mark missing observations by NaN.
    """
    finite = np.isfinite(array)
    array = np.where(finite, array, 0.0)
    weights = np.random.default_rng(0).normal(size=array.size)
    scale = float(np.sqrt(np.mean(array**2)))
    in_order = float(array @ weights) / array.size**0.5
    return [float(np.sum(finite)), scale, float(np.mean(array)), in_order]
