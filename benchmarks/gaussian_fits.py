"""Normal approximations: natural gradients against BlackJAX's full-rank VI, by ELBO and seconds.

    python -m benchmarks.gaussian_fits --data FOLDER

Both start at the same point with unit covariance. Seconds exclude compilation; BlackJAX's method
gets Adam at three learning rates and ten draws a step, and the best of the three is shown.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import numpyro_bridge as nb
from benchmarks.targets import NAMES, load
from numpyro_bridge.atlas.fit_normal import gaussian_vi
from numpyro_bridge.atlas.maps import DenseMap, lower_factor
from numpyro_bridge.atlas.standardised_target import elbo_of

HERE = Path(__file__).parent
RATES = (3e-3, 1e-2, 3e-2)


@partial(jax.jit, static_argnames=("num_steps",))
def first_order(rng_key, target, start, rate, num_steps):
    """BlackJAX's full-rank VI as a `DenseMap`."""
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
    return DenseMap(
        jnp.asarray(state.mu), lower_factor(strict + jnp.diag(jnp.exp(state.chol_params[:size])))
    )


def timed(function, *args, **kwargs):
    """Result and seconds of the second call."""
    jax.block_until_ready(function(*args, **kwargs))
    start = time.perf_counter()
    result = jax.block_until_ready(function(*args, **kwargs))
    return result, time.perf_counter() - start


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark data")
    parser.add_argument("--num-steps", type=int, default=5_000)
    options = parser.parse_args()
    lines = [
        "# Normal approximations",
        "",
        "`python -m benchmarks.gaussian_fits --data FOLDER`, "
        f"{options.num_steps} first-order steps of ten draws, {jax.devices()[0].device_kind}.",
        "",
        "| target | log Z | natural gradients, ELBO | seconds | full-rank VI, ELBO | seconds |",
        "|---|---|---|---|---|---|",
    ]
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
        lines.append(
            f"| {name} | {benchmark.reference.log_evidence:.3f} | {natural:.3f} | {seconds:.2f} | "
            f"{best:.3f} | {adam_seconds:.2f} |"
        )
        print(lines[-1], flush=True)
    (HERE / "gaussian_fits.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
