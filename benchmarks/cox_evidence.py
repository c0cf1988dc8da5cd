"""Log evidence of the Cox processes by bridge sampling, without any sampler of the package.

    python -m benchmarks.cox_evidence --data FOLDER

The bridge is between draws of NUTS and the normal distribution with the mode and the curvature of
the posterior; Meng and Wong (1996), Statistica Sinica 6. Each replicate has four chains of its own
and as many normal draws.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from numpyro.infer import MCMC, NUTS

import numpyro_bridge as nb
from benchmarks import command_line, densities
from numpyro_bridge.atlas.fit_normal import laplace

NUM_REPLICATES = 4
NUM_CHAINS = 4
NUM_DRAWS = 2_000
"""Draws of each chain, after half as many iterations of warm-up."""


def bridge_sampling(log_ratio_of_draws, log_ratio_of_normal, num_iterations: int = 200):
    """The log evidence by Meng and Wong's optimal bridge between two distributions.

    Args:
        log_ratio_of_draws: Log of the density over the normal density, at draws of the posterior,
            shape `(num,)`.
        log_ratio_of_normal: The same at draws of the normal distribution, shape `(num,)`.
        num_iterations: Iterations of the fixed-point equation.
    """

    def improve(log_evidence, _):
        mass = log_ratio_of_normal - jnp.logaddexp(log_ratio_of_normal, log_evidence)
        share = -jnp.logaddexp(log_ratio_of_draws, log_evidence)
        return logsumexp(mass) - logsumexp(share), None

    start = jnp.median(log_ratio_of_normal)
    return jax.lax.scan(improve, start, length=num_iterations)[0]


def log_evidences(rng_key, target) -> np.ndarray:
    """One estimate for each replicate."""
    fit_key, nuts_key, normal_key = jax.random.split(rng_key, 3)
    maps = laplace(fit_key, target, jnp.zeros((1, target.dim)))
    whitened = nb.atlas.StandardisedTarget(target, jax.tree.map(lambda leaf: leaf[0], maps))
    mcmc = MCMC(
        NUTS(potential_fn=lambda position: -whitened.log_density(position)),
        num_warmup=NUM_DRAWS // 2,
        num_samples=NUM_DRAWS,
        num_chains=NUM_REPLICATES * NUM_CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    starts = jnp.zeros((NUM_REPLICATES * NUM_CHAINS, target.dim))
    mcmc.run(nuts_key, init_params=starts)
    draws = jnp.reshape(mcmc.get_samples(), (NUM_REPLICATES, -1, target.dim))

    def log_ratio(position):
        normal = -0.5 * (position @ position + target.dim * jnp.log(2 * jnp.pi))
        return whitened.log_density(position) - normal

    def log_ratios(positions):
        flat = positions.reshape(-1, target.dim)
        return jax.lax.map(log_ratio, flat, batch_size=1_000).reshape(NUM_REPLICATES, -1)

    normal = jax.random.normal(normal_key, draws.shape)
    return np.asarray(jax.vmap(bridge_sampling)(log_ratios(draws), log_ratios(normal)))


def main() -> None:
    """Print mean and standard error over replicates."""
    parser = command_line.parser(__doc__)
    names = [name for name in densities.LOADERS if name.startswith("cox")]
    command_line.add_targets(parser, names, default=["cox_8", "cox_16"])
    options = parser.parse_args()
    for name in options.targets:
        density = densities.LOADERS[name](options.data)
        estimates = log_evidences(jax.random.key(0), density.target)
        error = np.std(estimates, ddof=1) / len(estimates) ** 0.5
        print(f"{name}: log Z {np.mean(estimates):.3f} ± {error:.3f}")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
