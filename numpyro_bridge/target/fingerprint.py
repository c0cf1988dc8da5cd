"""Tell whether two targets are the same, by their log densities at a few fixed points."""

from collections.abc import Mapping

import equinox as eqx
import jax
import numpy as np

from numpyro_bridge._core.on_device import on_device
from numpyro_bridge.target import Target

NUM_POINTS = 4

RELATIVE, ABSOLUTE = 1e-4, 0.05
"""What rounding may change, in another precision or on another device; the second in nats."""

OF_CONSTANT = 1e-6
"""What rounding may change of the constant that is left out of large log densities, as a share."""


def fingerprint(target: Target) -> list[float]:
    """Log densities (nats) at points that depend on the dimension alone, and what they leave out.

    They are numbers for JSON.
    """
    noise = np.random.default_rng(0).normal(size=(NUM_POINTS, target.dim))
    densities = np.asarray(_log_densities(target, on_device(noise)), float)
    return [*densities.tolist(), target.innermost.log_scale]


@eqx.filter_jit
def _log_densities(target: Target, positions):
    return jax.vmap(target.log_density)(positions)


def difference(saved: list[float], now: list[float]) -> str | None:
    """Say in words for a message what differs beyond rounding; None where nothing does."""
    if len(now) != len(saved):
        return "there is no log density to compare with"
    rounding = np.where(np.arange(len(now)) < NUM_POINTS, RELATIVE, OF_CONSTANT)
    far = ~np.isclose(now, saved, rtol=rounding, atol=ABSOLUTE, equal_nan=True)
    if not far.any():
        return None
    index = int(np.argmax(far))
    return f"the log density at a fixed point is {now[index]:.8g}, it was {saved[index]:.8g}"


def shapes(sites: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """The shapes of sites as lists, which is what JSON makes of tuples."""
    return {name: list(shape) for name, shape in sites.items()}
