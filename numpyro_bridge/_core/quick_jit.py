"""Compile large programs that run briefly with less optimisation, which takes less time in all."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax
from jax.core import Tracer

from numpyro_bridge._core.interrupts import raise_interrupt

OPTIONS = {"xla_backend_optimization_level": 1}
"""What LLVM does beyond this level costs more seconds than it saves in programs that run once."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def quick_jit(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`eqx.filter_jit` for a program that runs about as long as it takes to compile.

    On a CPU it is compiled with little optimisation. Inside other compiled code, which has options
    of its own, and on other devices nothing is different from `eqx.filter_jit`.
    """
    plain = eqx.filter_jit(function)
    quick = eqx.filter_jit(function, compiler_options=OPTIONS)  # pyright: ignore[reportCallIssue]

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        raise_interrupt()  # a run is a few dozen of these calls, with seconds between them
        leaves = jax.tree.leaves((args, kwargs))
        nested = any(isinstance(leaf, Tracer) for leaf in leaves)
        on_cpu = jax.default_backend() == "cpu"
        return (quick if on_cpu and not nested else plain)(*args, **kwargs)

    return call
