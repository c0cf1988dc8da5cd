"""One training iteration of every sampler with every loss, against that of the defaults.

    python -m benchmarks.catalogue --data FOLDER

Seeds, 256 trajectories, 64 steps, width 64. Each iteration is timed in turn with one of CMCD with
`reverse_kl_ld`, so that a drift of the machine's speed cancels from the ratio.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import Partial

import numpyro_bridge as nb
from benchmarks.iteration import iteration, seconds_of, standardised_seeds

PAGE = Path(__file__).parent / "catalogue.md"
NUM_TRAJECTORIES, SETTINGS = 256, {"num_steps": 64}

PROCESSES = {
    "CMCD": nb.CMCD,
    "DBS": nb.DBS,
    "PIS": nb.PIS,
    "DDS": nb.DDS,
    "DIS": nb.DIS,
    "UnderdampedCMCD": nb.UnderdampedCMCD,
    "UnderdampedCMCD, BAOAB": Partial(nb.UnderdampedCMCD, integrator=nb.BAOAB()),
    "UnderdampedCMCD, OBAB": Partial(nb.UnderdampedCMCD, integrator=nb.OBAB()),
    "UnderdampedCMCD, Euler-Maruyama": Partial(nb.UnderdampedCMCD, integrator=nb.EulerMaruyama()),
    "UnderdampedDBS": nb.UnderdampedDBS,
    "UnderdampedDIS": nb.UnderdampedDIS,
    "AnnealedLangevin": nb.AnnealedLangevin,
    "MCD": nb.MCD,
    "UHA": nb.UHA,
    "LDVI": nb.LDVI,
}
OBJECTIVES = {
    "reverse_kl_ld": nb.reverse_kl_ld,
    "log_variance": nb.log_variance,
    "trajectory_balance": nb.trajectory_balance,
    "forward_kl": nb.forward_kl,
    "reverse_kl": nb.reverse_kl,
    "reverse_kl_path": nb.reverse_kl_path,
}


def ratio(process, objective, target, reference, repeats: int) -> float:
    """Median seconds of an iteration over those of a reference, measured in turn."""
    step, args = iteration(objective, NUM_TRAJECTORIES), (jax.random.key(3), process, target)
    seconds_of(step, *args)
    pairs = [(seconds_of(step, *args), reference()) for _ in range(repeats)]
    one, other = np.median(np.asarray(pairs), axis=0)
    return float(one / other)


def main() -> None:
    """Measure every combination and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmark data")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES), choices=PROCESSES)
    options = parser.parse_args()
    target = standardised_seeds(options.data)
    default = nb.CMCD(jax.random.key(2), target.dim, **SETTINGS)
    step = iteration(nb.reverse_kl_ld, NUM_TRAJECTORIES)

    def reference() -> float:
        return seconds_of(step, jax.random.key(3), default, target)

    reference()
    lines = [
        "| sampler | " + " | ".join(OBJECTIVES) + " |",
        "|---" * (1 + len(OBJECTIVES)) + "|",
    ]
    for name in options.processes:
        cells = []
        for objective in OBJECTIVES.values():
            make = PROCESSES[name]
            if objective is nb.trajectory_balance:
                make = nb.with_log_evidence(make)
            process = make(jax.random.key(2), target.dim, **SETTINGS)
            cells.append(f"{ratio(process, objective, target, reference, options.repeats):.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    seconds = np.median([reference() for _ in range(options.repeats)])
    device = jax.devices()[0].device_kind
    head = [
        "# One training iteration of every sampler and loss",
        "",
        f"`python -m benchmarks.catalogue --data FOLDER`, {device}, JAX {jax.__version__}. Seeds, "
        "256 trajectories, 64 steps, width 64.",
        f"Seconds of an iteration over those of CMCD with `reverse_kl_ld`, {1e3 * seconds:.0f} ms, "
        "measured in turn; compilation apart.",
        "",
    ]
    text = "\n".join(head + lines) + "\n"
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
