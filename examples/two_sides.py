"""A posterior with two modes: chains of NUTS beside draws whose charts have masses with errors.

    python examples/two_sides.py [PICTURE.png]

Three receivers, almost on a line, measure how far away a transmitter is. They can hardly tell one
side of the line from the other.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

import numpyro_bridge as nb

RECEIVERS = np.array([[-4.0, 0.0], [1.0, 0.0], [5.0, 0.02]])
MEASURED = np.array([5.35, 2.91, 5.28])
NOISE, PRIOR_MEAN, PRIOR_SCALE = 0.3, np.array([0.0, 0.5]), 4.0
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def transmitter(receivers, measured=None):
    """Where the transmitter is, given distances from the receivers."""
    place = numpyro.sample("place", dist.Normal(PRIOR_MEAN, PRIOR_SCALE).to_event(1))
    distance = jnp.sqrt(jnp.sum((receivers - place) ** 2, axis=1))
    with numpyro.plate("receiver", len(receivers)):
        numpyro.sample("measured", dist.Normal(distance, NOISE), obs=measured)


class Side(NamedTuple):
    """The share of the posterior that lies to the north of the line."""

    exact: float
    by_chain: np.ndarray
    """What each chain of NUTS says."""
    by_charts: float
    error: float


def north_on_a_grid(num: int = 1_201) -> float:
    """The exact share of the north, by a sum over a grid."""
    grid = np.linspace(-9, 9, num)
    points = np.stack(np.meshgrid(grid, grid), axis=-1)
    distance = np.sqrt(np.sum((RECEIVERS - points[..., None, :]) ** 2, axis=-1))
    log_density = -0.5 * np.sum(((distance - MEASURED) / NOISE) ** 2, axis=-1)
    log_density -= 0.5 * np.sum(((points - PRIOR_MEAN) / PRIOR_SCALE) ** 2, axis=-1)
    density = np.exp(log_density - np.max(log_density))
    return float(np.sum(density[points[..., 1] > 0]) / np.sum(density))


def run_nuts(num: int = 1_000) -> np.ndarray:
    """Draws of four chains, shape (chain, draw, 2)."""
    nuts = MCMC(
        NUTS(transmitter),
        num_warmup=num,
        num_samples=num,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    nuts.run(jax.random.key(0), RECEIVERS, measured=MEASURED)
    return np.asarray(nuts.get_samples(group_by_chain=True)["place"])


def run_bridge() -> nb.Draws:
    """4,000 draws of the defaults."""
    sampler = nb.BridgeSampler(transmitter, progress_bar=False)
    posterior = sampler.run(jax.random.key(0), RECEIVERS, measured=MEASURED)
    return posterior.sample(jax.random.key(1), num_samples=4_000)


def side(chains: np.ndarray, draws: nb.Draws) -> Side:
    """The share of the north by everyone."""
    mass, error = draws.chart_masses
    north = np.array([draws.position[draws.chart == k, 1].mean() > 0 for k in range(len(mass))])
    return Side(
        north_on_a_grid(),
        np.mean(chains[..., 1] > 0, axis=1),
        float(mass[north].sum()),
        float(np.sqrt(np.sum(error[north] ** 2))),
    )


def picture(chains: np.ndarray, draws: nb.Draws, found: Side):
    """Chains and draws side by side, and what they say about the north."""
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(10, 3.4), width_ratios=(1, 1, 0.8), layout="constrained"
    )
    for axes, title in ((left, "NUTS, four chains"), (middle, "numpyro-bridge, by chart")):
        axes.plot(*RECEIVERS.T, "k^", markersize=7)
        axes.set(title=title, xlim=(-5, 6), ylim=(-4.2, 4.2), xlabel="east", ylabel="north")
    for chain, colour in zip(chains, COLOURS, strict=True):
        left.plot(*chain.T, ".", markersize=2, color=colour)
    position, chart = np.asarray(draws.position), np.asarray(draws.chart)
    for k in np.unique(chart):
        middle.plot(*position[chart == k].T, ".", markersize=2, color=COLOURS[int(k) % 4])
    right.bar(np.arange(4), found.by_chain, color=COLOURS)
    right.bar(4.5, found.by_charts, yerr=3 * found.error, color="0.6", capsize=4)
    right.axhline(found.exact, color="k", linestyle="--", label="exact")
    names = ["1", "2", "3", "4", "charts"]
    right.set(title="P(north of the line)", ylim=(0, 1.3), xticks=[0, 1, 2, 3, 4.5])
    right.set_xticklabels(names)
    right.set_xlabel("NUTS, and charts ± 3 errors")
    right.legend(loc="upper left")
    return figure


def main(path: Path) -> Side:
    """Run both, print what they say, and save the picture."""
    chains, draws = run_nuts(), run_bridge()
    found = side(chains, draws)
    draws.print_summary()
    print(f"\nprobability of the north, exactly: {found.exact:.4f}")
    print("by each chain of NUTS:            ", *(f"{share:.3f}" for share in found.by_chain))
    print(f"by the masses of the charts:       {found.by_charts:.4f} ± {found.error:.4f}")
    picture(chains, draws, found).savefig(path, dpi=130)
    print(f"saved {path}")
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "two_sides.png"))
