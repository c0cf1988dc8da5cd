"""What bending the standardisation is worth: the bent distributions alone, before any bridge.

    python -m benchmarks.bent_maps --data FOLDER

For each target an affine map and a bent one are fitted with three keys. Each turns standard normal
noise into draws, and 16,000 of them are weighted. The cost is that of the second fit in a process,
which compiles nothing, and that of an iteration of CMCD with `reverse_kl_ld` (96 steps, 256
trajectories), as the median of ten ratios of neighbouring runs.
"""

import time
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from benchmarks import case_table, problems, targets
from numpyro_bridge._core import weights
from numpyro_bridge.atlas.coupling import CouplingMap
from numpyro_bridge.atlas.fit_coupling import fit_coupling
from numpyro_bridge.atlas.standardised_target import log_weights_of

TABLE = Path(__file__).parent / "bent_maps.md"
CASES = (*targets.NAMES, "funnel")
NUM_DRAWS = 16_000
NOTES = [
    (__doc__ or "").split("\n\n")[2].strip().replace("\n", " "),
    "`python -m benchmarks.bent_maps --data FOLDER`.",
    "Gaps are log Z - ELBO in nats, mean ± standard deviation over keys. ESS, k-hat and the log "
    "evidence, less its reference, are those of draws through the bent map: means, and for k-hat "
    "the largest.",
]
COLUMNS = [
    "target",
    "dim",
    "steering",
    "gap, affine",
    "gap, bent",
    "ESS",
    "k-hat",
    "log evidence off by",
    "seconds of the fit",
    "cost of an iteration",
]


def measure(name: str, data: Path) -> list[str]:
    """A row of the table."""
    problem = problems.load(name, data, reference=False)
    affine_gaps, found, steering, seconds, cost = [], [], [], 0.0, 0.0
    for key in range(3):
        fit_key, bend_key, draw_key = jax.random.split(jax.random.key(key), 3)
        affine = nb.standardise(fit_key, problem.target, nonlinear=False).map
        assert isinstance(affine, nb.atlas.DenseMap)
        start = time.perf_counter()
        bent = jax.block_until_ready(fit_coupling(bend_key, problem.target, affine).map)
        seconds = time.perf_counter() - start
        noise = jax.random.normal(draw_key, (NUM_DRAWS, problem.target.dim))
        of = partial(log_weights_of, target=problem.target, noise=noise)
        affine_gaps.append(problem.log_evidence - float(jnp.mean(of(affine))))
        found.append(_figures(of(bent), problem.log_evidence))
        steering.append(int(bent.coupling.leading.sum()))
        cost = cost or _cost(problem.target, affine, bent)
    gaps, ess, pareto_k, off = np.transpose(found)
    return [
        name,
        f"{problem.target.dim}",
        ", ".join(map(str, steering)),
        _spread(affine_gaps),
        _spread(gaps),
        f"{np.mean(ess):.2f}",
        f"{np.max(pareto_k):.2f}",
        _spread(off),
        f"{seconds:.1f}",
        f"{cost:.2f}",
    ]


def _figures(log_weight, log_evidence: float) -> tuple[float, float, float, float]:
    """Gap, ESS, k-hat, and error of the log evidence."""
    return (
        log_evidence - float(jnp.mean(log_weight)),
        float(weights.effective_sample_size(log_weight)),
        weights.pareto_smooth(log_weight).pareto_k,
        float(weights.log_evidence(log_weight)[0]) - log_evidence,
    )


def _cost(target: nb.target.Target, affine: nb.atlas.DenseMap, bent: CouplingMap) -> float:
    """How much longer an iteration takes through the bent map."""
    process = nb.CMCD(jax.random.key(0), target.dim)

    @eqx.filter_jit
    def gradient(rng_key, process, target):
        def loss(process):
            return nb.reverse_kl_ld(rng_key, process, target, num_trajectories=256)[0]

        return eqx.filter_grad(loss)(process)

    def seconds(key: int, transform) -> float:
        start = time.perf_counter()
        jax.block_until_ready(
            gradient(jax.random.key(key), process, nb.atlas.StandardisedTarget(target, transform))
        )
        return time.perf_counter() - start

    ratios = [seconds(key, bent) / seconds(key, affine) for key in range(12)]
    return float(np.median(ratios[2:]))  # the first ones compile


def _spread(values) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def main() -> None:
    """Measure every case, print and write the table."""
    case_table.run(
        __doc__,
        CASES,
        measure,
        title="Bent maps",
        notes=NOTES,
        columns=COLUMNS,
        path=TABLE,
    )


if __name__ == "__main__":
    main()
