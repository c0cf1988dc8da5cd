"""Posteriors learned from 4,000 draws of NUTS: evidence, effective sample size and speed.

    python -m benchmarks.from_draws --data FOLDER

For each target, NUTS makes the draws in four vectorised chains, `DiffusionSampler` learns from
them with its defaults, and 16,000 of its own draws are weighted. The table is written to
`from_draws.md`.
"""

import time
from pathlib import Path

import jax
import numpy as np
from numpyro.diagnostics import effective_sample_size

import numpyro_bridge as nb
from benchmarks import case_table, nuts, posteriordb, targets
from numpyro_bridge._core import weights

CASES = ("seeds", "eight_schools", *posteriordb.NAMES)
TABLE = Path(__file__).with_suffix(".md")
NUM = 16_000


def load(name: str, data: Path) -> targets.Benchmark:
    """Read one case from the data folder."""
    return (targets if name in targets.NAMES else posteriordb).load(name, data)


def draws_of_nuts(benchmark: targets.Benchmark) -> tuple[dict, float]:
    """4,000 draws, and effective draws a second of the site that mixes worst, warm-up excluded."""
    mcmc = nuts.four_chains(benchmark.model)
    mcmc.warmup(jax.random.key(0), **benchmark.kwargs)
    mcmc.run(jax.random.key(1), **benchmark.kwargs)  # compiles
    start = time.perf_counter()
    mcmc.run(jax.random.key(2), **benchmark.kwargs)
    chains = {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}
    seconds = time.perf_counter() - start
    worst = min(float(np.min(effective_sample_size(value))) for value in chains.values())
    return dict(mcmc.get_samples()), worst / seconds


def measure(name: str, data: Path, **settings) -> list[str]:
    """One row of the table; `settings` are given to `DiffusionSampler`."""
    benchmark = load(name, data)
    given, nuts_speed = draws_of_nuts(benchmark)
    sampler = nb.DiffusionSampler(benchmark.model, progress_bar=False, **settings)
    start = time.perf_counter()
    posterior = sampler.run(jax.random.key(0), draws=given, **benchmark.kwargs)
    seconds = time.perf_counter() - start
    posterior.sample(jax.random.key(1), num_samples=1)  # compiles
    start = time.perf_counter()
    draws = posterior.sample(jax.random.key(2), num_samples=NUM)
    speed = NUM / (time.perf_counter() - start)
    upper = posterior.run_backward(jax.random.key(3), given)
    # Not `draws.log_evidence`, which is no number under a flat prior.
    evidence, error = weights.log_evidence(draws.log_weight)
    reference = benchmark.reference.log_evidence
    return [
        name,
        f"{posterior.target.dim}",
        f"{reference:.3f}",
        f"{draws.elbo:.3f}",
        f"{evidence:.3f} ± {error:.3f}",
        f"{upper.eubo:.3f}",
        f"{draws.ess:.2f}",
        f"{draws.pareto_k:.2f}",
        f"{largest_mean_error(draws, benchmark.reference):.2f}",
        f"{seconds:.0f}",
        f"{draws.ess * speed:.0f}",
        f"{nuts_speed:.0f}",
    ]


def largest_mean_error(draws: nb.Draws, reference: targets.Reference) -> float:
    """The largest distance of a weighted mean from the reference, in standard deviations of it."""
    weight = np.asarray(jax.nn.softmax(draws.log_weight))
    errors = [
        np.max(np.abs(np.tensordot(weight, draws.sites[name], 1) - mean) / reference.sd[name])
        for name, mean in reference.mean.items()
    ]
    return float(np.max(errors))


NOTES = [
    "`python -m benchmarks.from_draws --data FOLDER`, defaults of `DiffusionSampler`, key 0. "
    "The evidences of flat priors are integrals of the density as it is written. Means are "
    "compared with published draws (posteriordb; for Seeds and eight schools, long runs of NUTS). "
    "The last two columns are effective draws a second after training, and those of NUTS after "
    "warm-up for the parameter that mixes worst.",
]
COLUMNS = [
    "target",
    "dim",
    "log Z",
    "ELBO",
    "log evidence",
    "EUBO",
    "ESS",
    "k-hat",
    "means within, sds",
    "seconds to learn",
    "effective draws/s",
    "NUTS ESS/s",
]


def main() -> None:
    """Measure every case, print and write the table."""
    case_table.run(
        __doc__,
        CASES,
        measure,
        title="Learned from 4,000 draws of NUTS",
        notes=NOTES,
        columns=COLUMNS,
        path=TABLE,
    )


if __name__ == "__main__":
    main()
