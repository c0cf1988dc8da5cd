"""Densities with loops, evaluated one position after the other wherever many are asked for."""

from collections.abc import Callable

import equinox as eqx
from jax.custom_batching import sequential_vmap

from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.target import Point, Target
from numpyro_bridge.target.base import TargetWrapper
from numpyro_bridge.target.few_at_once import few_values_at_once

LogDensity = Callable[[Vector], Scalar]


def in_turn(target: Target, log_density: LogDensity) -> LogDensity:
    """The same log density, to be moved along by gradients; in turn where the target has loops.

    A loop that ends by its numbers, such as that of a solver with adaptive steps, runs for all
    positions of a batch as often as for the slowest. Far from the posterior, where a Hamiltonian
    path may lead, that can be many times as often as for most.

    Args:
        target: The target that the log density belongs to.
        log_density: A function of one position, and a pytree, since its arrays have to be
            arguments of what is compiled. The result has derivatives in reverse mode.
    """
    if not target.innermost.has_loops:
        return log_density
    arrays, rest = eqx.partition(log_density, eqx.is_array)

    def value(position, arrays):
        return eqx.combine(arrays, rest)(position)

    alone = few_values_at_once(value, 1)
    return lambda position: alone(position, arrays)


class OneByOne(TargetWrapper):
    """A target of which many positions are evaluated one after the other.

    Its log density has derivatives, and what `at` returns has none.
    """

    base: Target

    def __init__(self, base: Target):
        self.base = base

    def at(self, position: Vector) -> Point:
        arrays, rest = eqx.partition(self.base, eqx.is_array)
        return sequential_vmap(lambda x, arrays: eqx.combine(arrays, rest).at(x))(position, arrays)

    def log_density(self, position: Vector) -> Scalar:
        return in_turn(self.base, eqx.Partial(_log_density, self.base))(position)


def _log_density(target: Target, position: Vector) -> Scalar:
    return target.log_density(position)


def one_by_one(target: Target) -> Target:
    """The same target, evaluated one position after the other where it has loops."""
    return OneByOne(target) if target.innermost.has_loops else target
