"""Posteriors learned from simulations, given the real data, with their calibration.

    python -m benchmarks.amortised --data FOLDER

Each model is learned by `DiffusionSampler(model).amortise` with its defaults. 16,000 draws given
the real data are weighted, and 300 simulated data sets judge the calibration. The reference
evidence is exact or published; for the model with narrower priors it is that of `BridgeSampler`.
The table is written to `amortised.md`.
"""

import time
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb
from benchmarks import case_table, nuts, targets

TABLE = Path(__file__).with_suffix(".md")
NUM = 16_000


def centred_eight_schools(sigma, y=None):
    """The same prior, written with the effects themselves, which have its heavy tails."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", sigma.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def narrow_seeds(x1, x2, n, r=None):
    """Seeds with priors that make data like the real ones, effects non-centred."""
    scale = numpyro.sample("scale", dist.HalfNormal(1))
    a_0 = numpyro.sample("a_0", dist.Normal(0, 1))
    a_1 = numpyro.sample("a_1", dist.Normal(0, 1))
    a_2 = numpyro.sample("a_2", dist.Normal(0, 1))
    a_12 = numpyro.sample("a_12", dist.Normal(0, 1))
    with numpyro.plate("plate", x1.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1))
        logits = a_0 + a_1 * x1 + a_2 * x2 + a_12 * x1 * x2 + scale * z
        numpyro.sample("germinated", dist.Binomial(n, logits=logits), obs=r)


CASES = ("eight_schools", "eight_schools, centred", "seeds", "seeds, narrower priors")


def load(case: str, data: Path) -> tuple[targets.Benchmark, str]:
    """One case, and its log evidence in words."""
    benchmark = targets.load(case.split(",")[0], data)
    # NumPyro draws binomial counts of whole numbers of trials only.
    whole = {"n": np.asarray(benchmark.kwargs["n"], np.int32)} if "seeds" in case else {}
    benchmark = replace(benchmark, name=case, kwargs={**benchmark.kwargs, **whole})
    if case == CASES[1]:
        benchmark = replace(benchmark, model=centred_eight_schools)
    if case == CASES[3]:
        benchmark = replace(benchmark, model=narrow_seeds)
        sampler = nb.BridgeSampler(narrow_seeds, progress_bar=False)
        draws = sampler.run(jax.random.key(0), **benchmark.kwargs).sample(jax.random.key(1), NUM)
        return benchmark, f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}"
    return benchmark, f"{benchmark.reference.log_evidence:.3f}"


def seconds_of_nuts(benchmark: targets.Benchmark) -> float:
    """Seconds for warm-up and 4,000 draws, without compilation."""
    mcmc = nuts.four_chains(benchmark.model)
    mcmc.run(jax.random.key(0), **benchmark.kwargs)  # compiles
    start = time.perf_counter()
    mcmc.run(jax.random.key(1), **benchmark.kwargs)
    jax.block_until_ready(mcmc.get_samples())
    return time.perf_counter() - start


def measure(case: str, data: Path, **settings) -> list[str]:
    """One row of the table."""
    benchmark, reference = load(case, data)
    sampler = nb.DiffusionSampler(benchmark.model, progress_bar=False, **settings)
    start = time.perf_counter()
    amortised = sampler.amortise(jax.random.key(0), **benchmark.kwargs)
    seconds = time.perf_counter() - start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nb.ReliabilityWarning)
        amortised.condition(**benchmark.kwargs).sample(jax.random.key(1), 4_000)  # compiles
        start = time.perf_counter()
        amortised.condition(**benchmark.kwargs).sample(jax.random.key(2), 4_000)
        each = time.perf_counter() - start
        draws = amortised.condition(**benchmark.kwargs).sample(jax.random.key(3), NUM)
    ranks = amortised.calibrate(jax.random.key(4))
    corrected = amortised.calibrate(jax.random.key(4), correction="psis")
    of_sites = [p for label, p in ranks.p_values.items() if label != "log joint"]
    low, median = np.quantile(ranks.ess, [0.1, 0.5])
    return [
        case,
        f"{amortised.target.dim}",
        reference,
        f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}",
        f"{draws.ess:.2f}",
        f"{draws.pareto_k:.2f}",
        f"{median:.2f}, {low:.2f}",
        f"{min(1.0, min(of_sites) * len(of_sites)):.2g}",
        f"{ranks.p_values['log joint']:.2g}",
        f"{corrected.p_value:.2g}",
        f"{seconds:.0f}",
        f"{each:.1f}",
        f"{seconds_of_nuts(benchmark):.0f}",
    ]


NOTES = [
    "`python -m benchmarks.amortised --data FOLDER`, defaults of `DiffusionSampler.amortise`, "
    "key 0, two CPU cores. Evidence, ESS and k-hat are those given the real data. For 300 "
    "simulated data sets the table has the ESS that half of them and nine in ten of them reach, "
    "and p-values of the ranks of the latent sites (times their number), of the log joint, and of "
    "all ranks among corrected draws. Where k-hat is infinite, the weights and with them the "
    "stated error mean nothing. Seconds are those to learn, compilation included; those for 4,000 "
    "draws given one more data set; and those of NUTS for as many draws, warm-up included and "
    "compilation not.",
]
COLUMNS = [
    "model",
    "dim",
    "log Z",
    "log evidence",
    "ESS",
    "k-hat",
    "ESS given simulated data",
    "p, sites",
    "p, log joint",
    "p, corrected",
    "learn",
    "each",
    "NUTS",
]


def main() -> None:
    """Measure every case, print and write the table."""
    case_table.run(
        __doc__,
        CASES,
        measure,
        title="Learned from simulations",
        notes=NOTES,
        columns=COLUMNS,
        path=TABLE,
    )


if __name__ == "__main__":
    main()
