"""Normal approximations: natural gradients against BlackJAX's full-rank VI, by ELBO and seconds.

    python -m benchmarks.gaussian_fits --data FOLDER

Both start at the same point with unit covariance. Seconds exclude compilation. BlackJAX's method
uses Adam with ten draws a step at three learning rates, of which the best is shown.
"""

import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import numpyro_bridge as nb
from benchmarks import command_line, pages
from benchmarks.targets import NAMES, load
from numpyro_bridge.atlas.fit_normal import gaussian_vi
from numpyro_bridge.atlas.standardised_target import elbo_of

HERE = Path(__file__).parent
RATES = (3e-3, 1e-2, 3e-2)
COLUMNS = [
    "target",
    "log Z",
    "natural gradients, ELBO",
    "seconds",
    "full-rank VI, ELBO",
    "seconds",
]


@partial(jax.jit, static_argnames=("num_steps",))
def first_order(rng_key, target, start, rate, num_steps):
    """BlackJAX's full-rank VI, as a `DenseMap`."""
    from blackjax.vi import fullrank_vi

    optimizer = optax.adam(rate)
    state = fullrank_vi.init(start, optimizer)
    state = state._replace(mu=start)

    def step(state, key):
        state, _ = fullrank_vi.step(key, state, target.log_density, optimizer, num_samples=10)
        return state, None

    state, _ = jax.lax.scan(step, state, jax.random.split(rng_key, num_steps))
    size = start.size
    strict = jnp.zeros((size, size)).at[jnp.tril_indices(size, -1)].set(state.chol_params[size:])
    factor = strict + jnp.diag(jnp.exp(state.chol_params[:size]))
    return nb.atlas.DenseMap(jnp.asarray(state.mu), factor)


def timed(function, *args, **kwargs):
    """The result of a function, and the seconds that its second call takes."""
    jax.block_until_ready(function(*args, **kwargs))
    start = time.perf_counter()
    result = jax.block_until_ready(function(*args, **kwargs))
    return result, time.perf_counter() - start


def main() -> None:
    """Print and write the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--num-steps", type=int, default=5_000)
    options = parser.parse_args()
    cells = []
    for name in NAMES:
        benchmark = load(name, options.data)
        target = nb.target_from_model(jax.random.key(0), benchmark.model, **benchmark.kwargs)
        start = target.initial_positions(jax.random.key(1), 1)
        noise = jax.random.normal(jax.random.key(2), (4_096, target.dim))
        maps, seconds = timed(gaussian_vi, jax.random.key(3), target, start)
        natural = elbo_of(jax.tree.map(lambda leaf: leaf[0], maps), target, noise)
        adam = [
            timed(first_order, jax.random.key(4), target, start[0], rate, options.num_steps)
            for rate in RATES
        ]
        best, adam_seconds = max(
            ((float(elbo_of(map, target, noise)), spent) for map, spent in adam)
        )
        evidence = benchmark.reference.log_evidence
        both = [f"{natural:.3f}", f"{seconds:.2f}", f"{best:.3f}", f"{adam_seconds:.2f}"]
        cells.append([name, f"{evidence:.3f}", *both])
        print(pages.line(cells[-1]), flush=True)
    lines = [
        "# Normal approximations",
        "",
        "`python -m benchmarks.gaussian_fits --data FOLDER`, "
        f"{options.num_steps} first-order steps of ten draws.",
        "",
        pages.measured_on(),
        "",
    ]
    pages.write(HERE / "gaussian_fits.md", [*lines, *pages.table(COLUMNS, cells)])


if __name__ == "__main__":
    main()
