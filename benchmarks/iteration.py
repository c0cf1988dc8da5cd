"""One training iteration against its own matrix products, and how its memory grows.

    python -m benchmarks.iteration --data FOLDER

The target is Seeds, with 256 trajectories, 64 steps and networks of width 64. The matrix products
are read off the iteration's own program: every `dot_general`, with the shapes of its operands and
how often it runs. They are timed alone in the same process, in turn with the iteration, so that a
drift of the machine's speed cancels from the ratio.
"""

import time
from collections import Counter
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

import numpyro_bridge as nb
from benchmarks import command_line, pages
from benchmarks.targets import load
from numpyro_bridge.atlas.fit_normal import gaussian_vi

HERE = Path(__file__).parent
COLUMNS = [
    "process",
    "objective",
    "ms an iteration",
    "products alone, ms",
    "ratio",
    "to CMCD, rKL-LD",
]


def standardised_seeds(data: Path) -> nb.atlas.StandardisedTarget:
    """The target of the measurements."""
    seeds = load("seeds", data)
    target = nb.target_from_model(jax.random.key(0), seeds.model, **seeds.kwargs)
    map = nb.standardise(jax.random.key(1), target, candidates=(gaussian_vi,), nonlinear=False).map
    return nb.atlas.StandardisedTarget(target, map)


def iteration(objective, num_trajectories: int):
    """A compiled function from (key, process, target) to the loss and its gradient."""

    @eqx.filter_jit
    def run(rng_key, process, target):
        def loss(process):
            return objective(rng_key, process, target, num_trajectories=num_trajectories)[0]

        return eqx.filter_value_and_grad(loss)(process)

    return run


def matrix_products(function, *args) -> Counter:
    """How often each `dot_general` runs, by operand shapes, dtypes and dimension numbers."""
    counts: Counter = Counter()

    def visit(jaxpr, times: int):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                operands = tuple((v.aval.shape, str(v.aval.dtype)) for v in equation.invars)
                counts[operands, equation.params["dimension_numbers"]] += times
            repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            for inner in _inner_jaxprs(equation.params):
                visit(inner, times * repeats)

    jaxpr = eqx.filter_make_jaxpr(function)(*args)[0].jaxpr
    # What nothing reads is not compiled: simulating needs one of the two controls of DBS.
    live, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
    visit(live, 1)
    return counts


def _inner_jaxprs(params):
    for value in params.values():
        for leaf in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(leaf, "jaxpr"):
                yield leaf.jaxpr
            elif hasattr(leaf, "eqns"):
                yield leaf


def products_alone(counts: Counter):
    """A compiled function that does the same products as often, and its operands."""
    keys = list(counts)
    operands = [
        [jax.random.normal(jax.random.key(i), shape, dtype) for i, (shape, dtype) in enumerate(ops)]
        for ops, _ in keys
    ]

    @jax.jit
    def run(operands, scale):
        total = jnp.zeros(())
        for (_, dimensions), count, (left, right) in zip(
            keys, counts.values(), operands, strict=True
        ):

            def body(i, carry, right=right, dimensions=dimensions):
                # The sum enters a corner of an operand, in place, so that no product can be shared
                # or hoisted and none pays for a copy.
                left, total = carry
                left = left.at[(0,) * left.ndim].set(total)
                product = jax.lax.dot_general(left, right, dimensions)
                return left, total + scale * product.reshape(-1)[0]

            _, total = jax.lax.fori_loop(0, count, body, (left, total))
        return total

    return run, operands


def seconds_of(function, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio for each process and objective, and the memory table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    target = standardised_seeds(options.data)
    table, baseline = [], None
    for process_class in (nb.CMCD, nb.DBS):
        process = process_class(jax.random.key(2), target.dim, num_steps=64)
        for objective in (nb.reverse_kl_ld, nb.log_variance, nb.reverse_kl):
            whole, alone = compare(process, objective, target, options.repeats)
            baseline = baseline or whole
            seconds = (f"{1e3 * whole:.1f}", f"{1e3 * alone:.1f}")
            ratios = (f"{whole / alone:.2f}", f"{whole / baseline:.2f}")
            table.append([process_class.__name__, objective.__name__, *seconds, *ratios])
            print(pages.line(table[-1]), flush=True)
    lines = [
        "# One training iteration",
        "",
        "`python -m benchmarks.iteration --data FOLDER`. Seeds, 256 trajectories, 64 steps, width "
        "64; medians of alternating runs.",
        "",
        pages.measured_on(),
        "",
        *pages.table(COLUMNS, table),
        "",
        *memory_table(target),
    ]
    pages.write(HERE / "iteration.md", lines)


def compare(process, objective, target, repeats: int) -> tuple[float, float]:
    """Median seconds of the iteration and of its products, measured in turn."""
    step = iteration(objective, 256)
    args = (jax.random.key(3), process, target)
    run, operands = products_alone(matrix_products(step, *args))
    for function, inputs in ((step, args), (run, (operands, 1e-9))):
        seconds_of(function, *inputs)
    pairs = [(seconds_of(step, *args), seconds_of(run, operands, 1e-9)) for _ in range(repeats)]
    whole, alone = np.median(np.asarray(pairs), axis=0)
    return float(whole), float(alone)


def memory_table(target) -> list[str]:
    """Temporary memory of one DBS iteration as the number of steps doubles."""
    rows = []
    for num_steps in (16, 32, 64, 128):
        process = nb.DBS(jax.random.key(2), target.dim, num_steps=num_steps)
        step = partial(iteration(nb.reverse_kl_ld, 256).lower, jax.random.key(3))
        size = step(process, target).compile().compiled.memory_analysis().temp_size_in_bytes
        rows.append([f"{num_steps}", f"{size / 1e6:.1f}", f"{size / (256 * num_steps):.0f}"])
    return pages.table(["steps", "temporary memory, MB", "per state and step, bytes"], rows)


if __name__ == "__main__":
    main()
