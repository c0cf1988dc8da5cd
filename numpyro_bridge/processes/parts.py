"""What samplers are made of: parts that training and exploration know by their types."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

Tree = TypeVar("Tree")


class AbstractPart(eqx.Module):
    """A part of a sampler, whose type says what its arrays are.

    >>> kind = nb.processes.AbstractPart
    >>> sorted(name for name, part in vars(process).items() if isinstance(part, kind))
    ['annealing', 'control', 'diffusion', 'initial']

    The parts are `Diffusion`, `AnnealingSchedule`, `UnderdampedScales`, an
    `AbstractInitialDistribution` and an `AbstractControl`. The optimiser chooses a learning rate by
    these types, exploration widens each part that makes noise, and a filter of trainable arrays may
    select by them. Arrays of a sampler that are in no part are trained like those of a control.
    """

    def widened(self, factor: float) -> "AbstractPart":
        """The same part with `factor` times as much noise; itself, if it makes none."""
        return self


def is_part(node: Any) -> bool:
    """Whether a node of a pytree is a part of a sampler."""
    return isinstance(node, AbstractPart)


def map_parts(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Apply a function to every part of a pytree, and to the leaves that are in no part."""
    return jax.tree.map(function, tree, is_leaf=is_part)


def widened_parts(tree: Tree, factor: float) -> Tree:
    """The same pytree with each of its parts widened."""
    return map_parts(lambda node: node.widened(factor) if is_part(node) else node, tree)
