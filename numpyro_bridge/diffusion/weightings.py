r"""Weightings: how much each noise level counts in a denoising loss, as a function of log-SNR.

A weighting that never rises with the log-SNR makes the loss a mixture of evidence lower bounds of
the data at different noise levels; one that rises somewhere bounds nothing. Whichever is chosen,
the exact denoiser minimises the loss: weightings differ in where a network of finite size, trained
on finitely many draws, makes its errors. Only `uniform` is the lower bound of log density itself.

All are taken from Kingma and Gao (2023), arXiv:2303.00848, table 1, each up to a constant factor.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.types import Scalar

Weighting = Callable[[Scalar], Scalar]

GRID = np.linspace(-20.0, 20.0, 4_001)
"""Log-SNRs at which a weighting is evaluated; beyond them a vector is all noise or all data."""


def uniform(log_snr: Scalar) -> Scalar:
    """The evidence lower bound: every level counts alike. Monotone.

    >>> float(nb.diffusion.weightings.uniform(jnp.array(2.0)))
    1.0

    Choose it where log densities and evidence matter, as in inference they do.
    """
    return jnp.ones_like(log_snr)


def flow(log_snr: Scalar) -> Scalar:
    """`exp(-log_snr / 2)`: flow matching, which is v-prediction on a cosine schedule. Monotone.

    >>> round(float(nb.diffusion.weightings.flow(jnp.array(2.0))), 3)
    0.368
    """
    return jnp.exp(-0.5 * log_snr)


def sigmoid(log_snr: Scalar, *, shift: float = 2.0) -> Scalar:
    """`sigmoid(shift - log_snr)`: uniform up to a level, then falling. Monotone.

    >>> float(nb.diffusion.weightings.sigmoid(jnp.array(2.0)))
    0.5
    """
    return jax.nn.sigmoid(shift - log_snr)


def cosine(log_snr: Scalar) -> Scalar:
    """`sech(log_snr / 2)`: noise prediction on a cosine schedule, as in IDDPM. Not monotone.

    >>> float(nb.diffusion.weightings.cosine(jnp.array(0.0)))
    1.0
    """
    return 1 / jnp.cosh(0.5 * log_snr)


def edm(log_snr: Scalar) -> Scalar:
    """The weighting of EDM with its settings for images, a bump in log sigma. Not monotone.

    >>> round(float(nb.diffusion.weightings.edm(jnp.array(2.4))), 3)
    0.057
    """
    return _normal(log_snr, 2.4, 2.4) * (jnp.exp(-log_snr) + 0.25)


def logit_normal(log_snr: Scalar, *, mean: float = 0.0, sd: float = 1.0) -> Scalar:
    """The weighting of Stable Diffusion 3: flow matching at times with a logit-normal distribution.

    >>> round(float(nb.diffusion.weightings.logit_normal(jnp.array(0.0))), 3)
    0.798

    It is not monotone, and close to `edm`.
    """
    return _normal(log_snr, -2 * mean, 2 * sd) * (1 + jnp.exp(-0.5 * log_snr)) ** 2


def p2(log_snr: Scalar, *, gamma: float = 1.0) -> Scalar:
    """`cosine` divided by `(1 + exp(log_snr))^gamma`: low noise counts less. Not monotone.

    >>> float(nb.diffusion.weightings.p2(jnp.array(0.0)))
    0.5
    """
    return cosine(log_snr) * jax.nn.sigmoid(-log_snr) ** gamma


def min_snr(log_snr: Scalar, *, gamma: float = 5.0) -> Scalar:
    """`cosine` times `min(1, gamma / snr)`: a capped weight at low noise. Not monotone.

    >>> round(float(nb.diffusion.weightings.min_snr(jnp.array(4.0))), 3)
    0.024
    """
    return cosine(log_snr) * jnp.minimum(1.0, gamma * jnp.exp(-log_snr))


class Monotone(eqx.Module):
    """The smallest weighting that never rises and is nowhere below the given one.

    >>> weighting = nb.diffusion.weightings.Monotone(nb.diffusion.weightings.edm)
    >>> nb.diffusion.weightings.is_monotone(weighting)
    True

    If the given one has a single peak, it is constant up to there: `Monotone(edm)` is the monotone
    variant of EDM.

    Args:
        weighting: Any weighting.
    """

    weighting: Weighting = eqx.field(static=True)

    def __call__(self, log_snr: Scalar) -> Scalar:
        """The largest weight at this level or at any cleaner one."""
        later = np.maximum.accumulate(_on_grid(self.weighting)[::-1])[::-1]
        index = jnp.searchsorted(jnp.asarray(GRID, log_snr.dtype), log_snr)
        beyond = jnp.asarray(np.append(later, 0.0), log_snr.dtype)[index]
        return jnp.maximum(self.weighting(log_snr), beyond)


def is_monotone(weighting: Weighting) -> bool:
    """Whether a weighting never rises with the log-SNR: then its loss is a mixture of ELBOs.

    >>> nb.diffusion.weightings.is_monotone(nb.diffusion.weightings.edm)
    False
    """
    values = _on_grid(weighting)
    return bool(np.all(np.diff(values) <= 1e-6 * np.abs(values[:-1])))


def _on_grid(weighting: Weighting) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.vmap(weighting)(jnp.asarray(GRID, jnp.result_type(float))))


def _normal(value: Scalar, mean: float, sd: float) -> Scalar:
    return jnp.exp(-0.5 * ((value - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
