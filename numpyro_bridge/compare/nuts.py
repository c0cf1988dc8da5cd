"""NUTS of NumPyro or of BlackJAX, as the reference that a bridge is compared with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
import numpyro.infer
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_count, check_flag, check_instance, check_key
from numpyro_bridge._core.stopwatch import Watch, stopwatch
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.compare.costs import Costs
from numpyro_bridge.target import ModelTarget, Target

STATS = {
    "diverging": "diverging",
    "num_steps": "n_steps",
    "accept_prob": "acceptance_rate",
    "energy": "energy",
}
"""The statistics that NumPyro collects, and the names that ArviZ has for them."""


@dataclass(frozen=True, eq=False, repr=False)
class NutsRun:
    """Draws of a reference sampler, and what they cost.

    >>> samples = {"w": jax.random.normal(key, (4, 250, 2))}  # chains, draws, and the site's shape
    >>> run = nb.compare.NutsRun(samples, stats={}, costs=nb.compare.Costs(), library="numpyro")

    Attributes:
        samples: constrained values by site, deterministic ones included, each of shape (chain,
            draw, ...).
        stats: sample statistics by ArviZ's names, each of shape (chain, draw).
        costs: seconds and gradient evaluations, as far as they are known.
        library: the package that made the draws, by its name on PyPI.
    """

    samples: dict[str, Array]
    stats: dict[str, Array]
    costs: Costs
    library: str


Nuts = Callable[..., NutsRun]
"""`(rng_key, target, *, num_chains, num_warmup, num_samples, progress_bar) -> NutsRun`."""


def numpyro_nuts(
    rng_key: RNGKey,
    target: Target,
    *,
    num_chains: int,
    num_warmup: int,
    num_samples: int,
    progress_bar: bool = True,
) -> NutsRun:
    """Run NumPyro's NUTS with its defaults, all chains in one batch.

    >>> nuts = nb.compare.numpyro_nuts
    >>> run = nuts(key, target, num_chains=2, num_warmup=100, num_samples=100)

    Args:
        rng_key: a JAX key.
        target: the target of a model, or of a log density.
        num_chains: number of chains.
        num_warmup: warm-up steps of each chain.
        num_samples: draws of each chain.
        progress_bar: whether to show progress. Without the bar NumPyro compiles warm-up and
            sampling separately, which takes twice as long.
    """
    check_key(rng_key)
    check_instance("target", target, Target, "posterior.target.base")
    num_chains, num_warmup, num_samples = _checked(num_chains, num_warmup, num_samples)
    progress_bar = check_flag("progress_bar", progress_bar)
    warmup_key, sample_key, init_key = jax.random.split(rng_key, 3)
    kernel, args, kwargs = _kernel_and_arguments(init_key, target, num_chains)
    mcmc = numpyro.infer.MCMC(
        kernel,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=progress_bar,
    )
    kwargs = {**kwargs, "extra_fields": ("num_steps",)}
    with stopwatch() as warmup:
        mcmc.warmup(warmup_key, *args, collect_warmup=True, **kwargs)
        gradients_before = run_of(mcmc).costs.gradients_drawing
    with stopwatch() as sampling:
        mcmc.run(sample_key, *args, **kwargs)
        run = run_of(mcmc)
        jax.block_until_ready(run.samples)
    return _with_costs(run, warmup, sampling, gradients_before)


def blackjax_nuts(
    rng_key: RNGKey,
    target: Target,
    *,
    num_chains: int,
    num_warmup: int,
    num_samples: int,
    progress_bar: bool = True,
) -> NutsRun:
    """Run BlackJAX's NUTS after its window adaptation, all chains in one batch.

    >>> nuts = nb.compare.blackjax_nuts
    >>> run = nuts(key, target, num_chains=2, num_warmup=100, num_samples=100)

    Args:
        rng_key: a JAX key.
        target: the target of a model, or of a log density.
        num_chains: number of chains.
        num_warmup: warm-up steps of each chain.
        num_samples: draws of each chain.
        progress_bar: ignored, since there is no bar.

    Raises:
        ImportError: if BlackJAX is not installed.
    """
    check_key(rng_key)
    check_instance("target", target, Target, "posterior.target.base")
    num_chains, num_warmup, num_samples = _checked(num_chains, num_warmup, num_samples)
    check_flag("progress_bar", progress_bar)
    _import_blackjax()
    init_key, warmup_key, sample_key = jax.random.split(rng_key, 3)
    starts = target.initial_positions(init_key, num_chains)
    with stopwatch() as warmup:
        keys = jax.random.split(warmup_key, num_chains)
        states, parameters, steps = _adapt(keys, target, starts, num_warmup)
        gradients_before = int(np.sum(np.asarray(steps)))
    with stopwatch() as sampling:
        keys = jax.random.split(sample_key, num_chains)
        samples, stats = _draw(keys, target, states, parameters, num_samples)
        jax.block_until_ready(samples)
    run = NutsRun(samples, stats, Costs(gradients_drawing=_num_gradients(stats)), "blackjax")
    return _with_costs(run, warmup, sampling, gradients_before)


def _checked(num_chains: Any, num_warmup: Any, num_samples: Any) -> tuple[int, int, int]:
    """The sizes of a run as integers of Python."""
    return (
        check_count("num_chains", num_chains, 1),
        check_count("num_warmup", num_warmup, 1),
        check_count("num_samples", num_samples, 1),
    )


def run_of(mcmc: numpyro.infer.MCMC) -> NutsRun:
    """Read the draws, the statistics and the gradients of a finished `MCMC` of NumPyro."""
    fields = mcmc.get_extra_fields(group_by_chain=True)
    stats = {STATS[name]: fields[name] for name in STATS if name in fields}
    costs = Costs(gradients_drawing=_num_gradients(stats))
    return NutsRun(mcmc.get_samples(group_by_chain=True), stats, costs, "numpyro")


def _with_costs(run: NutsRun, warmup: Watch, sampling: Watch, before: int | None) -> NutsRun:
    costs = replace(
        run.costs,
        compile_seconds=warmup.compiling + sampling.compiling,
        train_seconds=warmup.running,
        draw_seconds=sampling.running,
        gradients_before=before,
    )
    return replace(run, costs=costs)


def _num_gradients(stats: dict[str, Array]) -> int | None:
    """Gradients evaluated, one for each leapfrog step; None if the steps were not collected."""
    steps = stats.get("n_steps")
    return None if steps is None else int(np.sum(np.asarray(steps)))


def _kernel_and_arguments(
    rng_key: RNGKey, target: Target, num_chains: int
) -> tuple[numpyro.infer.NUTS, tuple[Any, ...], dict[str, Any]]:
    if isinstance(target, ModelTarget):
        return numpyro.infer.NUTS(target.model), target.model_args, target.model_kwargs
    start = target.initial_positions(rng_key, num_chains)
    start = start if num_chains > 1 else start[0]
    kernel = numpyro.infer.NUTS(potential_fn=lambda site: -target.log_density(site["x"]))
    return kernel, (), {"init_params": {"x": start}}


def _import_blackjax() -> Any:
    try:
        import blackjax
    except ImportError as error:
        raise ImportError(
            "blackjax_nuts needs BlackJAX, which could not be imported: pip install blackjax"
        ) from error
    return blackjax


@eqx.filter_jit
def _adapt(
    rng_keys: RNGKey | Any, target: Target, starts: Float[Array, "chains dim"], num_steps: int
) -> tuple[Any, dict[str, Array], Array]:
    blackjax = _import_blackjax()
    warmup = blackjax.window_adaptation(blackjax.nuts, target.log_density)

    def adapt(rng_key: RNGKey, start: Vector):
        (state, parameters), info = warmup.run(rng_key, start, num_steps=num_steps)
        return state, parameters, info.info.num_integration_steps

    return jax.vmap(adapt)(rng_keys, starts)


@eqx.filter_jit
def _draw(
    rng_keys: RNGKey | Any, target: Target, states: Any, parameters: Any, num_samples: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    blackjax = _import_blackjax()

    def one_chain(rng_key, state, parameters):
        kernel = blackjax.nuts(target.log_density, **parameters)

        def step(state, rng_key):
            state, info = kernel.step(rng_key, state)
            return state, (target.constrain(state.position), _stats(info))

        return jax.lax.scan(step, state, jax.random.split(rng_key, num_samples))[1]

    return jax.vmap(one_chain)(rng_keys, states, parameters)


def _stats(info: Any) -> dict[str, Array]:
    return {
        "diverging": info.is_divergent,
        "n_steps": info.num_integration_steps,
        "acceptance_rate": info.acceptance_rate,
        "energy": info.energy,
    }
