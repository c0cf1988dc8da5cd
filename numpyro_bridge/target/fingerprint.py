"""Tell whether two targets are the same, by their log densities at a few fixed points."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge.target import Target

NUM_POINTS = 4

RELATIVE, ABSOLUTE = 1e-4, 0.05
"""What rounding may change, in another precision or on another device; the second in nats."""


def fingerprint(target: Target) -> list[float]:
    """Evaluate log densities (nats) at points that depend on the dimension alone; JSON numbers."""
    noise = np.random.default_rng(0).normal(size=(NUM_POINTS, target.dim))
    return np.asarray(_log_densities(target, jnp.asarray(noise)), float).tolist()


@eqx.filter_jit
def _log_densities(target: Target, positions):
    return jax.vmap(target.log_density)(positions)


def difference(saved: list[float], now: list[float]) -> str | None:
    """Say in words for a message what differs beyond rounding; None where nothing does."""
    far = ~np.isclose(now, saved, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    if not far.any():
        return None
    index = int(np.argmax(far))
    return f"the log density at a fixed point is {now[index]:.8g}, it was {saved[index]:.8g}"
