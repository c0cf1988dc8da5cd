"""A log density without a model: a banana whose evidence is known in closed form.

Any function of one position that JAX can differentiate is a target. This one bends a normal density
along a parabola. That moves mass and makes none, so its integral is still 2π · WIDTH. Run it with
`python examples/raw_log_density.py`.
"""

import argparse
import math
from functools import partial

import arviz
import jax

import numpyro_bridge as nb

WIDTH = 2.0
BEND = 0.3
LOG_EVIDENCE = math.log(2 * math.pi * WIDTH)


def log_density(position):
    along, across = position
    centre = BEND * (along**2 - WIDTH**2)
    return -0.5 * (along / WIDTH) ** 2 - 0.5 * (across - centre) ** 2


def main(num_iterations=800, num_steps=32, num_samples=4_000, progress_bar=True):
    """Train, compare the evidence with the closed form, and return the draws."""
    sampler = nb.BridgeSampler(
        nb.target_from_log_density(log_density, dim=2),
        process=partial(nb.CMCD, num_steps=num_steps),
        num_iterations=num_iterations,
        progress_bar=progress_bar,
    )
    draws = sampler.run(jax.random.key(0)).sample(jax.random.key(1), num_samples=num_samples)
    draws.print_summary()
    print(f"log evidence  {draws.log_evidence:.4f} ± {draws.log_evidence_error:.4f}")
    print(f"closed form   {LOG_EVIDENCE:.4f}\n")
    print(arviz.summary(nb.to_inference_data(draws)).to_string())
    return draws


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-iterations", type=int, default=800)
    parser.add_argument("--num-steps", type=int, default=32)
    parser.add_argument("--num-samples", type=int, default=4_000)
    main(**vars(parser.parse_args()))
