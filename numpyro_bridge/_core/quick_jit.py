"""Compile large programs that run briefly in less time, for somewhat slower code.

Most of the seconds that a first run takes are spent in compiling a few dozen programs for the CPU
(`python -m benchmarks.cold` counts them). XLA's newer emitters build an MLIR context for every loop
that they write, which is a large part of that. The code of the older emitters is about as fast,
save in long loops over exponentials.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax
from jax.core import Tracer

from numpyro_bridge._core.interrupts import raise_interrupt

OPTIONS = {
    "xla_backend_optimization_level": 1,  # more costs LLVM more seconds than a short run saves
    "xla_cpu_use_fusion_emitters": False,
}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def quick_jit(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`eqx.filter_jit` for a program that runs about as long as it takes to compile.

    On a CPU it is compiled with `OPTIONS`. Inside other compiled code, which has options of its
    own, and on other devices nothing is different from `eqx.filter_jit`.
    """
    plain = eqx.filter_jit(function)

    @cache
    def quick() -> Callable[Arguments, Result]:
        return eqx.filter_jit(function, compiler_options=known_options())  # pyright: ignore[reportCallIssue]

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        raise_interrupt()  # a run is a few dozen of these calls, with seconds between them
        leaves = jax.tree.leaves((args, kwargs))
        nested = _inside_compiled_code() or any(isinstance(leaf, Tracer) for leaf in leaves)
        on_cpu = jax.default_backend() == "cpu"
        return (quick() if on_cpu and not nested else plain)(*args, **kwargs)

    return call


def _inside_compiled_code() -> bool:
    """Whether JAX is tracing, even where none of the arguments depends on what is traced."""
    return isinstance(jax.device_put(0), Tracer)


@cache
def known_options() -> dict[str, int | bool]:
    """Leave out the options that this release of XLA does not have, since it would refuse them."""

    def known(option: tuple[str, int | bool]) -> bool:
        try:
            jax.jit(lambda: 0, compiler_options=dict([option])).lower().compile()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    if jax.config.read("jax_disable_most_optimizations"):  # as the tests and the pages ask for
        return dict(filter(known, {**OPTIONS, "xla_backend_optimization_level": 0}.items()))
    return dict(filter(known, OPTIONS.items()))
