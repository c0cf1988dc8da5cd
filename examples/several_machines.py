"""One posterior on several machines: all train one bridge together, and share the drawing.

Every machine runs this same program. `examples/hosts.sh node1 node2` starts it on a list of hosts,
`sbatch examples/slurm.sh` as a Slurm job, and so do two terminals of one machine:

    python examples/several_machines.py --coordinator localhost:12345 --processes 2 --process 0
    python examples/several_machines.py --coordinator localhost:12345 --processes 2 --process 1

If a machine is lost, the others end with an error that names it. Started anew, on as many machines
as there are, the program goes on from the checkpoint.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb

# Arrays of NumPy: JAX must compute nothing before the processes know of each other.
DISTANCE = np.array([3.1, 2.8, 3.3])


def model(distance):
    """Where along a road is a car whose distance from a mast was measured? On either side of it."""
    position = numpyro.sample("position", dist.Normal(0, 10))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    numpyro.sample("distance", dist.Normal(abs(position), noise), obs=distance)


def main(folder="several_machines", num_iterations=1_200, num_steps=32, num_samples=4_000):
    """Train on all devices of all processes, draw, and let the first process print and save."""
    folder = Path(folder)
    sampler = nb.BridgeSampler(
        model,
        process=partial(nb.CMCD, num_steps=num_steps),
        num_iterations=num_iterations,
        devices=jax.devices(),
        checkpoint=folder / "checkpoint",
    )
    posterior = sampler.run(jax.random.key(0), DISTANCE)
    posterior.save(folder / "car.bridge")
    draws = posterior.sample(jax.random.key(1), num_samples, devices=jax.devices())
    if jax.process_index() == 0:
        print(f"{jax.device_count()} devices of {jax.process_count()} processes")
        draws.print_summary()
    return draws


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinator", help="host:port of the first process; Slurm knows it")
    parser.add_argument("--processes", type=int, help="how many there are; Slurm knows it")
    parser.add_argument("--process", type=int, help="the number of this one; Slurm knows it")
    parser.add_argument("--folder", default="several_machines", help="seen by the first process")
    parser.add_argument("--num-iterations", type=int, default=1_200)
    parser.add_argument("--num-steps", type=int, default=32)
    parser.add_argument("--num-samples", type=int, default=4_000)
    options = vars(parser.parse_args())
    jax.distributed.initialize(
        *(options.pop(name) for name in ("coordinator", "processes", "process")),
        heartbeat_timeout_seconds=30,  # so long may a machine be silent before it counts as lost,
        shutdown_timeout_seconds=60,  # and so long does one that failed wait for the others
    )
    main(**options)
