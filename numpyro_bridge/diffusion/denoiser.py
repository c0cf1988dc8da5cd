"""Denoiser: what a network says of a noisy vector, in any of four languages."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.diffusion.network import DenoisingNetwork
from numpyro_bridge.diffusion.noise import AbstractNoiseSchedule, Level, Truncated, VPCosine

Prediction = Callable[[Level], tuple[Scalar, Scalar]]
"""What a network predicts: the parts of clean vector and noise in it, at a level of unit scale."""

# The table. With `noisy = alpha · clean + sigma · noise` each row is a second equation for the same
# two unknowns, so every prediction is every other one.


def predicts_clean(level: Level) -> tuple[Scalar, Scalar]:
    """The clean vector itself; poor at low noise, where it tells little of the noise."""
    return jnp.ones_like(level.alpha), jnp.zeros_like(level.alpha)


def predicts_noise(level: Level) -> tuple[Scalar, Scalar]:
    """The noise; poor at high noise, where it tells little of the clean vector."""
    return jnp.zeros_like(level.alpha), jnp.ones_like(level.alpha)


def predicts_velocity(level: Level) -> tuple[Scalar, Scalar]:
    """`alpha · noise - sigma · clean`; good at every level, zero for standard normal data."""
    return -level.sigma, level.alpha


def predicts_flow(level: Level) -> tuple[Scalar, Scalar]:
    """`clean - noise`, the time derivative of the straight path; good at every level."""
    return jnp.ones_like(level.alpha), -jnp.ones_like(level.alpha)


class Denoised(NamedTuple):
    """A noisy vector taken apart: `noisy = alpha · clean + sigma · noise`."""

    clean: Vector
    """Estimate of the posterior mean of the clean vector."""
    noise: Vector
    """The noise that goes with it."""

    @property
    def flow(self) -> Vector:
        """Time derivative of the straight path from noise to clean vector."""
        return self.clean - self.noise

    def velocity(self, level: Level) -> Vector:
        """`alpha · noise - sigma · clean` at a level of unit scale."""
        level = level.unit
        return level.alpha * self.noise - level.sigma * self.clean

    def score(self, level: Level) -> Vector:
        """Gradient of the log density of noisy vectors at this level."""
        return -self.noise / level.sigma


class Denoiser(eqx.Module):
    r"""A network that estimates the clean vector inside a noisy one.

    The network sees the noisy vector at unit scale and the log-SNR, so the same denoiser serves
    any schedule: swap `schedule` with `eqx.tree_at`, or name another one where it is used.

    Args:
        network: Maps `(noisy, log_snr, context)` to a vector, such as a `DenoisingNetwork`.
        schedule: Spreads time over noise levels, in training and sampling.
        prediction: What the output means: `predicts_velocity`, `predicts_flow`, `predicts_noise`
            or `predicts_clean`.
    """

    network: Callable[..., Vector]
    schedule: AbstractNoiseSchedule = Truncated(VPCosine())
    prediction: Prediction = eqx.field(static=True, default=predicts_velocity)

    def __call__(
        self, noisy: Vector, time: Scalar, context: Float[Array, " features"] | None = None
    ) -> Denoised:
        """Take a noisy vector apart at a time of the schedule: 0 is noise, 1 is data."""
        return self.at_level(noisy, self.schedule.at(time), context)

    def at_level(
        self, noisy: Vector, level: Level, context: Float[Array, " features"] | None = None
    ) -> Denoised:
        """Take a noisy vector apart at any level; the scale of the level is that of the vector."""
        unit, noisy = level.unit, noisy / level.scale
        output = self.network(noisy, level.log_snr, context)
        of_clean, of_noise = self.prediction(unit)
        determinant = unit.alpha * of_noise - unit.sigma * of_clean
        clean = (of_noise * noisy - unit.sigma * output) / determinant
        noise = (unit.alpha * output - of_clean * noisy) / determinant
        return Denoised(clean, noise)

    def noise_error(
        self,
        clean: Vector,
        noise: Vector,
        level: Level,
        context: Float[Array, " features"] | None = None,
        score: Vector | None = None,
    ) -> Scalar:
        r"""Squared error of the predicted noise, $\lVert \hat\varepsilon - \varepsilon \rVert^2$.

        It is computed from the error of the output, which is finite at both ends of a schedule.
        With the score of the data's density the target is one of the same mean and less variance:
        by the target score identity both $x$ and $(z + \sigma^2 s(x) / \alpha) / \alpha$ average
        to the clean vector inside $z$, and of the two that combination is taken which is constant
        if the data are standard normal, $\alpha z + \sigma^2 (x + s(x))$ at unit scale.

        Reference of the identity: De Bortoli et al. (2024), arXiv:2402.08667.
        """
        unit = level.unit
        noisy = unit.mix(clean, noise)
        output = self.network(noisy, level.log_snr, context)
        if score is not None:
            excess = clean + score
            clean = unit.alpha * noisy + unit.sigma**2 * excess
            noise = unit.sigma * (noisy - unit.alpha * excess)
        of_clean, of_noise = self.prediction(unit)
        determinant = unit.alpha * of_noise - unit.sigma * of_clean
        error = output - of_clean * clean - of_noise * noise
        return (unit.alpha / determinant) ** 2 * jnp.sum(error**2)


class InContext(eqx.Module):
    """A conditional network with its context bound: one that takes none."""

    network: Callable[..., Vector]
    context: Float[Array, " features"]

    def __call__(self, noisy: Vector, log_snr: Scalar, context: None = None) -> Vector:
        """The output at one noisy vector, in this context."""
        return self.network(noisy, log_snr, self.context)


def in_context(denoiser: Denoiser, context: Float[Array, " features"]) -> Denoiser:
    """A conditional denoiser in one context, where it serves like any other."""
    return replace(denoiser, network=InContext(denoiser.network, context))


def untrained_denoiser(
    rng_key: RNGKey,
    dim: int,
    *,
    width: int = 128,
    depth: int = 3,
    context_size: int = 0,
    schedule: AbstractNoiseSchedule | None = None,
    prediction: Prediction = predicts_velocity,
) -> Denoiser:
    """An untrained denoiser with the network of this package.

    Args:
        rng_key: Randomness of the first weights.
        dim: Length of the vectors, which are meant to be standardised.
        width: Units of each hidden layer.
        depth: Hidden layers.
        context_size: Length of the vector that draws are conditioned on, 0 for none.
        schedule: A cosine from log-SNR -10 to 10 by default.
        prediction: What the output means.
    """
    network = DenoisingNetwork(rng_key, dim, width, depth, context_size)
    return Denoiser(network, Truncated(VPCosine()) if schedule is None else schedule, prediction)


def posterior_variance(level: Level, data_variance: Scalar | float = 1.0) -> Scalar:
    """Variance of the clean vector given a noisy one, for normal data of this variance."""
    return 1 / (1 / data_variance + jnp.exp(level.log_snr))


def renoised(rng_key: RNGKey, noisy: Vector, level: Level, noisier: Level) -> Vector:
    """Add noise to a noisy vector until it has the level `noisier`, exactly."""
    shrink = noisier.alpha / level.alpha
    # sigma'² - shrink² sigma², without the cancellation where the levels are close.
    differ = noisier.log_snr < level.log_snr
    gap = jnp.where(differ, noisier.log_snr, 0.0) - jnp.where(differ, level.log_snr, 0.0)
    added = noisier.sigma * jnp.sqrt(-jnp.expm1(gap))
    return shrink * noisy + added * jax.random.normal(rng_key, noisy.shape, noisy.dtype)


def ancestral_coefficients(
    now: Level, then: Level, data_variance: Scalar | float = 1.0
) -> tuple[Scalar, Scalar, Scalar]:
    r"""Mean and variance of a less noisy vector given a noisy one and the estimated clean vector.

    $$z_s \mid z_t \sim \mathcal{N}\left(c_z z_t + c_x \hat x(z_t),\ \sigma_s^2
      (1 - e^{\lambda_t - \lambda_s}) + c_x^2 V_t\right), \qquad c_x = \alpha_s
      (1 - e^{\lambda_t - \lambda_s})$$

    The first part of the variance is that of the noise chain run backward from a known clean
    vector, the second what is not known of that vector, $V_t$. For normal data of the given
    variance the law is exact, however far the levels are apart.

    Args:
        now: The noisier level.
        then: The less noisy level; its sigma may be zero.
        data_variance: Variance of a coordinate of the clean vectors.

    Returns:
        $(c_z, c_x)$ and the variance.
    """
    gained = -jnp.expm1(now.log_snr - then.log_snr)
    of_noisy = now.alpha / then.alpha * (then.sigma / now.sigma) ** 2
    of_clean = then.alpha * gained
    unknown = posterior_variance(now, data_variance)
    return of_noisy, of_clean, then.sigma**2 * gained + of_clean**2 * unknown
