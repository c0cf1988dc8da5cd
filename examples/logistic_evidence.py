"""Which of two nested logistic regressions do the data prefer? A Bayes factor with its error.

The data are 23 shuttle launches before Challenger: the temperature of the air and whether an
O-ring was damaged (Dalal, Fowlkes and Hoadley, 1989). In one model the risk is constant, in the
other one it depends on the temperature. Run it with `python examples/logistic_evidence.py`.
"""

import argparse
import math

import arviz
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb

FAHRENHEIT = jnp.array(
    [66, 70, 69, 68, 67, 72, 73, 70, 57, 63, 70, 78, 67, 53, 67, 75, 70, 81, 76, 79, 75, 76, 58.0]
)
DAMAGED = jnp.array([0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1.0])

CONSTANT = jnp.ones((len(DAMAGED), 1))
WARMTH = (FAHRENHEIT[:, None] - FAHRENHEIT.mean()) / FAHRENHEIT.std()
DESIGNS = {"constant risk": CONSTANT, "temperature": jnp.concatenate([CONSTANT, WARMTH], axis=1)}


def model(design, damaged=None):
    # The evidence depends on the prior: one unit here is one standard deviation of temperature.
    prior = dist.Normal(0, 2).expand([design.shape[1]]).to_event(1)
    coefficients = numpyro.sample("coefficients", prior)
    numpyro.sample("damaged", dist.Bernoulli(logits=design @ coefficients), obs=damaged)


def main(num_samples=4_000, progress_bar=True):
    """Sample each model, print the Bayes factor, and return the draws of both."""
    sampler = nb.BridgeSampler(model, progress_bar=progress_bar)
    draws = {}
    for name, design in DESIGNS.items():
        posterior = sampler.run(jax.random.key(0), design, damaged=DAMAGED)
        draws[name] = posterior.sample(jax.random.key(1), num_samples=num_samples)
        print(f"\n{name}")
        draws[name].print_summary()

    log_bayes_factor, error = compare(draws["temperature"], draws["constant risk"])
    print(f"log Bayes factor  {log_bayes_factor:.3f} ± {error:.3f} in favour of temperature")
    print(f"Bayes factor      {math.exp(log_bayes_factor):.1f}\n")
    print(arviz.summary(nb.to_inference_data(draws["temperature"])).to_string())
    return draws


def compare(draws, other):
    """Log Bayes factor of the first against the second, and its standard error, in nats."""
    error = math.hypot(draws.log_evidence_error, other.log_evidence_error)
    return draws.log_evidence - other.log_evidence, error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-samples", type=int, default=4_000)
    main(**vars(parser.parse_args()))
