"""The precision of arrays, which is that of JAX at the time: trained in one, used in another."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def check_precision(process: Any) -> None:
    """Raise a ValueError if the arrays of a process are not in the present precision."""
    present = jnp.result_type(float)
    others = {str(x.dtype) for x in jax.tree.leaves(process) if eqx.is_inexact_array(x)}
    others -= {str(present)}
    if others:
        raise ValueError(
            f"this {type(process).__name__} was made in {', '.join(sorted(others))} and JAX works "
            f"in {present} now (jax_enable_x64): set the precision before anything is trained, or "
            "save the posterior and load it, which brings it into the present one"
        )


def in_present_precision(tree: Tree) -> Tree:
    """The tree with its real arrays in the precision that JAX works in now."""
    present = jnp.result_type(float)
    return jax.tree.map(lambda x: x.astype(present) if eqx.is_inexact_array(x) else x, tree)
