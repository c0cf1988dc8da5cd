"""Floating-point precision: a process may be made in one and used while JAX works in another."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def check_precision(process: Any) -> None:
    """Raise a ValueError if a process is not in the precision that JAX works in now."""
    present = jnp.result_type(float)
    others = {str(x.dtype) for x in jax.tree.leaves(process) if eqx.is_inexact_array(x)}
    others -= {str(present)}
    if others:
        raise ValueError(
            f"this {type(process).__name__} was made in {', '.join(sorted(others))} and JAX works "
            f"in {present} now (jax_enable_x64): set the precision before anything is trained, or "
            "save the posterior and load it again, which converts it to the precision of JAX"
        )


def in_present_precision(tree: Tree) -> Tree:
    """The same tree with its floating-point arrays in the precision that JAX works in now."""
    present = jnp.result_type(float)
    return jax.tree.map(lambda x: x.astype(present) if eqx.is_inexact_array(x) else x, tree)
