"""One posterior by five interfaces, as a table in docs/reference/five_ways.md.

    python -m benchmarks.five_ways

The model is eight schools, non-centred. All four bridges have the same process, loss, batch and
number of iterations; what differs is which interface trains them.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import blackjax.util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpyro.infer import MCMC, NUTS, SVI

import numpyro_bridge as nb
from benchmarks import command_line, pages
from benchmarks.targets import eight_schools, eight_schools_evidence
from numpyro_bridge._core import weights

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "five_ways.md"

EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

PROCESS = partial(nb.CMCD, num_steps=32)
ITERATIONS = 600
BATCH = 256
CHAINS = {"num_warmup": 500, "num_samples": 1_000, "num_chains": 4, "chain_method": "vectorized"}
NUM_SAMPLES = 4_000
SHOWN = ("mu", "tau", "theta")
SHOWN_AS = ("mu", "tau", "theta[0]")
Result = tuple[dict[str, Any], Any, tuple[float, float] | None]
"""Values by site, a log weight for each draw (None if all are equal), and the log evidence with its
error (None if there is none).
"""


def falling(num: int) -> optax.GradientTransformation:
    """The optimiser of the package with a rate that falls to zero over the second half."""
    schedule = optax.linear_schedule(1.0, 0.0, num // 2, transition_begin=num // 2)
    return optax.chain(nb.bridge_optimizer(), optax.scale_by_schedule(schedule))


def by_bridge_sampler(model, args, kwargs) -> Result:
    """`nb.BridgeSampler(model).run(...)`."""
    sampler = nb.BridgeSampler(
        model, process=PROCESS, num_iterations=ITERATIONS, tolerance=0, progress_bar=False
    )
    draws = sampler.run(jax.random.key(0), *args, **kwargs).sample(jax.random.key(1), NUM_SAMPLES)
    return draws.sites, draws.log_weight, (draws.log_evidence, draws.log_evidence_error)


def by_guide(model, args, kwargs) -> Result:
    """`SVI(model, nb.AutoBridge(model), ..., nb.TraceReverseKLLD())`."""
    guide = nb.AutoBridge(model, process=PROCESS)
    svi = SVI(model, guide, falling(ITERATIONS), nb.TraceReverseKLLD(BATCH))
    result = svi.run(jax.random.key(0), ITERATIONS, *args, progress_bar=False, **kwargs)
    draws = guide.to_posterior(result.params).sample(jax.random.key(1), NUM_SAMPLES)
    return draws.sites, draws.log_weight, (draws.log_evidence, draws.log_evidence_error)


def by_kernel(model, args, kwargs) -> Result:
    """`MCMC(nb.BridgeKernel(model), ...)`."""
    settings = {"num_iterations": ITERATIONS, "tolerance": 0, "progress_bar": False}
    kernel = nb.BridgeKernel(model, process=PROCESS, **settings)
    mcmc = MCMC(kernel, progress_bar=False, **CHAINS)
    mcmc.run(jax.random.key(0), *args, **kwargs)
    assert kernel.posterior is not None
    draws = kernel.posterior.sample(jax.random.key(1), NUM_SAMPLES)
    return mcmc.get_samples(), None, (draws.log_evidence, draws.log_evidence_error)


def by_blackjax(model, args, kwargs) -> Result:
    """`nb.as_blackjax(logdensity_fn)`."""
    target = nb.target_from_model(jax.random.key(0), model, *args, **kwargs)

    def logdensity(position):
        return target.log_density(target.joined(position))

    start = target.by_site(jnp.zeros(target.dim))
    algorithm: Any = nb.as_blackjax(
        logdensity, process=PROCESS, optimizer=falling(ITERATIONS), num_trajectories=BATCH
    )
    state, _ = blackjax.util.run_inference_algorithm(
        jax.random.key(0),
        algorithm,
        ITERATIONS,
        initial_position=start,
        transform=lambda state, metrics: metrics.elbo,
    )
    positions, log_weight = algorithm.sample(jax.random.key(1), state, NUM_SAMPLES)
    flat = jax.vmap(target.joined)(positions)
    estimate, error = weights.log_evidence(log_weight)
    return jax.vmap(target.constrain)(flat), log_weight, (float(estimate), float(error))


def by_nuts(model, args, kwargs) -> Result:
    """`MCMC(NUTS(model), ...)`."""
    mcmc = MCMC(NUTS(model), progress_bar=False, **CHAINS)
    mcmc.run(jax.random.key(0), *args, **kwargs)
    return mcmc.get_samples(), None, None


WAYS: dict[str, Callable[..., Result]] = {
    "BridgeSampler": by_bridge_sampler,
    "guide of SVI": by_guide,
    "kernel of MCMC": by_kernel,
    "BlackJAX style": by_blackjax,
    "NUTS": by_nuts,
}


def moments(sites: dict[str, Any], log_weight: Any) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the first number of each site."""
    share = None if log_weight is None else np.asarray(jax.nn.softmax(log_weight))
    found = {}
    for name in SHOWN:
        values = np.asarray(sites[name]).reshape(NUM_SAMPLES, -1)[:, 0]
        mean = np.average(values, weights=share)
        found[name] = (mean, np.sqrt(np.average((values - mean) ** 2, weights=share)))
    return found


def row(name: str) -> list[str]:
    """The cells of one row: what an interface finds, and how many seconds it takes in all."""
    start = time.process_time()
    result = WAYS[name](eight_schools, (ERROR,), {"y": EFFECT})
    sites, log_weight, evidence = jax.block_until_ready(result)
    seconds = time.process_time() - start
    pairs = moments(sites, log_weight).values()
    cells = [f"{value:.2f}" for pair in pairs for value in pair]
    known = "none" if evidence is None else f"{evidence[0]:.3f} ± {evidence[1]:.3f}"
    return [name, *cells, known, f"{seconds:.0f}"]


def main() -> None:
    """Run all five, write the page and print it."""
    command_line.parser(__doc__, data=False).parse_args()
    lines = [
        "# The same posterior five ways",
        "",
        "Eight schools, non-centred, ten dimensions; `python -m benchmarks.five_ways` regenerates "
        "this page. The four bridges share the process (CMCD, 32 steps), the loss "
        f"(`reverse_kl_ld`, batches of {BATCH}) and {ITERATIONS} iterations. Seconds are processor "
        "time, summed over cores, for standardisation, training, compilation and 4,000 draws "
        "together. The log evidence of the kernel is that of its trained bridge, "
        "`kernel.posterior`, which is the same bridge as in the first row. The Monte Carlo error "
        "of a mean is about a sixtieth of the standard deviation, and larger for NUTS. The log "
        f"evidence by quadrature is {eight_schools_evidence(ERROR, EFFECT):.3f}.",
        "",
    ]
    of_sites = [column for name in SHOWN_AS for column in (f"mean of {name}", "sd")]
    table = pages.table(["", *of_sites, "log evidence", "CPU seconds"], map(row, WAYS))
    pages.write(PAGE, [*lines, *table, "", pages.measured_on()])


if __name__ == "__main__":
    main()
