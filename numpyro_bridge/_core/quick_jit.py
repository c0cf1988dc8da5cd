"""Compile large programs that run briefly in less time, for somewhat slower code.

Most of the seconds that a first run takes are spent in compiling a few dozen programs for the CPU
(`python -m benchmarks.cold` counts them). XLA's newer emitters build an MLIR context for every loop
that they write, which is a large part of that. The code of the older emitters is about as fast,
save in long loops over exponentials.
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
from jax.core import Tracer

from numpyro_bridge._core import ahead
from numpyro_bridge._core.interrupts import raise_interrupt

OPTIMISATION = "xla_backend_optimization_level"

OPTIONS = {
    OPTIMISATION: 1,  # more costs LLVM more seconds than a short run saves
    "xla_cpu_use_fusion_emitters": False,
}

FEW_NUMBERS, FEW_DIMENSIONS, FEW_BYTES = 1_500, 16, 40_000
"""Programs of `quick_jit` are not optimised at all where the density and its maps hold fewer
numbers than this, in no more dimensions, and one evaluation of the density makes fewer bytes: code
that is several times as slow costs less time there than its optimisation. A mixture of lines with
90 observations, 31 kB, takes as long either way; of one with 1,000 observations, 188 kB, a run that
is optimised takes half as long."""

MANY_NUMBERS = 100_000
"""Programs of `brief_jit` are not optimised where there are fewer numbers than this."""

CHOSEN = "_chosen"
"""The attribute of a program that returns what is called outside of compiled code."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def quick_jit(
    function: Callable[Arguments, Result], *, optimised: bool = False
) -> Callable[Arguments, Result]:
    """`eqx.filter_jit` for a program that runs about as long as it takes to compile.

    On a CPU it is compiled with `OPTIONS`, and not optimised at all for a small density. Inside
    other compiled code, which has options of its own, and on other devices nothing is different
    from `eqx.filter_jit`.

    Args:
        function: The program.
        optimised: Whether to optimise it for a small density too, since it runs several times.
    """
    return _with_options(function, (lambda _: True) if optimised else _is_large)


def brief_jit(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`quick_jit` for a program that evaluates a density at a few thousand positions at most."""
    return _with_options(function, lambda arguments: num_numbers(arguments) >= MANY_NUMBERS)


def full_jit(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`eqx.filter_jit` for a program that `compile_ahead` may be asked to compile."""
    plain = eqx.filter_jit(function)
    return _awaited(function, plain, lambda _: plain)


def _with_options(
    function: Callable[Arguments, Result], pays_to_optimise: Callable[[Any], bool]
) -> Callable[Arguments, Result]:
    """A program that is compiled with `OPTIONS` on a CPU, and optimised where that pays."""
    plain = eqx.filter_jit(function)

    def chosen(arguments: Any) -> Callable[Arguments, Result]:
        if jax.default_backend() != "cpu":
            return plain
        return _compiled_with(function, *known_options(pays_to_optimise(arguments)).items())

    return _awaited(function, plain, chosen)


@cache
def _compiled_with(function: Callable[..., Any], *options: tuple[str, Any]) -> Callable[..., Any]:
    """`eqx.filter_jit` with some compiler options; the same one for the same options."""
    return eqx.filter_jit(function, compiler_options=dict(options))  # pyright: ignore[reportCallIssue]


def _awaited(
    function: Callable[Arguments, Result],
    plain: Callable[Arguments, Result],
    chosen: Callable[[Any], Callable[Arguments, Result]],
) -> Callable[Arguments, Result]:
    """Wait for what is being compiled in another thread, and call it."""

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        raise_interrupt()  # a run is a few dozen of these calls, with seconds between them
        leaves = jax.tree.leaves((args, kwargs))
        if _inside_compiled_code() or any(isinstance(leaf, Tracer) for leaf in leaves):
            return plain(*args, **kwargs)
        ahead.wait_for(call, args)
        return chosen(args)(*args, **kwargs)

    setattr(call, CHOSEN, chosen)
    return call


def compile_ahead(program: Callable[..., Any], *arguments: Any) -> None:
    """Trace a program of `quick_jit` now, and compile it in another thread.

    A later call with arguments of the same shapes waits for that, and compiles nothing.

    Args:
        program: A function that `quick_jit`, `brief_jit` or `full_jit` has returned.
        *arguments: Those of the call to come, or others of the same shapes.
    """
    raise_interrupt()
    ahead.submit(program, getattr(program, CHOSEN)(arguments).lower, arguments)


def num_numbers(arguments: Sequence[Any]) -> int:
    """How many numbers are in those arguments that are modules, such as a target with its data."""
    leaves = jax.tree.leaves(_modules(arguments))
    return sum(leaf.size for leaf in leaves if eqx.is_array(leaf))


def _is_large(arguments: Sequence[Any]) -> bool:
    modules = _modules(arguments)
    dim = max((getattr(module, "dim", 0) for module in modules), default=0)
    made = max((_num_bytes(module) for module in modules), default=0)
    return dim > FEW_DIMENSIONS or made >= FEW_BYTES or num_numbers(arguments) >= FEW_NUMBERS


def _num_bytes(module: eqx.Module) -> int:
    """How many bytes one evaluation of a target makes, below all maps around it; 0 of others."""
    return getattr(getattr(module, "innermost", module), "num_bytes", 0)


def _modules(arguments: Sequence[Any]) -> list[eqx.Module]:
    return [one for one in arguments if isinstance(one, eqx.Module)]


def _inside_compiled_code() -> bool:
    """Whether JAX is tracing, even where none of the arguments depends on what is traced."""
    return isinstance(jax.device_put(0), Tracer)


@cache
def known_options(optimised: bool = True) -> dict[str, int | bool]:
    """Leave out the options that this release of XLA does not have, since it would refuse them.

    Args:
        optimised: Whether to optimise at all; nothing is where JAX is asked for that.
    """
    if jax.config.read("jax_disable_most_optimizations"):  # as the tests and the pages ask for
        optimised = False
    wanted = OPTIONS if optimised else OPTIONS | {OPTIMISATION: 0}
    return {name: value for name, value in wanted.items() if _is_known(name)}


@cache
def _is_known(option: str) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={option: OPTIONS[option]}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
