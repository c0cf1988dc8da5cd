"""Eight schools: a hierarchical model, its posterior and its evidence.

The data are the effects of coaching in eight schools, each known with a standard error (Rubin,
1981). The model, written non-centred, asks how much the schools have in common. Run it with
`python examples/eight_schools.py`.
"""

import argparse

import arviz
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb

EFFECT = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
STANDARD_ERROR = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def model(standard_error, effect=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", standard_error.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("effect", dist.Normal(theta, standard_error), obs=effect)


def main(num_samples=4_000, progress_bar=True):
    """Sample with the defaults, print, and return the draws."""
    sampler = nb.BridgeSampler(model, progress_bar=progress_bar)
    posterior = sampler.run(jax.random.key(0), STANDARD_ERROR, effect=EFFECT)
    draws = posterior.sample(jax.random.key(1), num_samples=num_samples)
    draws.print_summary()

    idata = nb.to_inference_data(draws)
    print(arviz.summary(idata, var_names=["mu", "tau", "theta"]).to_string())
    return draws


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-samples", type=int, default=4_000)
    main(**vars(parser.parse_args()))
