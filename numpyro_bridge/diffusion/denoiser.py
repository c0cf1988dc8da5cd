"""Denoisers: networks that take a noisy vector apart, whichever of four outputs they predict."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import (
    MOST_LAYERS,
    MOST_STEPS,
    check_count,
    check_function,
    check_instance,
    check_key,
)
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.diffusion.network import DenoisingNetwork
from numpyro_bridge.diffusion.noise import AbstractNoiseSchedule, Level, Truncated, VPCosine

Prediction = Callable[[Level], tuple[Scalar, Scalar]]
"""What a network predicts: its coefficients of clean vector and noise, at a unit-scale level."""

# `noisy = alpha · clean + sigma · noise` is one equation for the clean vector and the noise. Each
# prediction below is a second one, so that any of them can be computed from any other.


def predicts_clean(level: Level) -> tuple[Scalar, Scalar]:
    """The clean vector itself; poor at low noise, where it says little about the noise.

    >>> prediction = nb.diffusion.predicts_clean
    >>> denoiser = nb.diffusion.untrained_denoiser(key, 2, prediction=prediction)
    """
    return jnp.ones_like(level.alpha), jnp.zeros_like(level.alpha)


def predicts_noise(level: Level) -> tuple[Scalar, Scalar]:
    """The noise; poor at high noise, where it says little about the clean vector.

    >>> prediction = nb.diffusion.predicts_noise
    >>> denoiser = nb.diffusion.untrained_denoiser(key, 2, prediction=prediction)
    """
    return jnp.zeros_like(level.alpha), jnp.ones_like(level.alpha)


def predicts_velocity(level: Level) -> tuple[Scalar, Scalar]:
    """`alpha · noise - sigma · clean`; good at every level, and zero for standard normal data.

    >>> prediction = nb.diffusion.predicts_velocity
    >>> denoiser = nb.diffusion.untrained_denoiser(key, 2, prediction=prediction)
    """
    return -level.sigma, level.alpha


def predicts_flow(level: Level) -> tuple[Scalar, Scalar]:
    """`clean - noise`, the time derivative of the straight path; good at every level.

    >>> prediction = nb.diffusion.predicts_flow
    >>> denoiser = nb.diffusion.untrained_denoiser(key, 2, prediction=prediction)
    """
    return jnp.ones_like(level.alpha), -jnp.ones_like(level.alpha)


class Denoised(NamedTuple):
    """A noisy vector taken apart: `noisy = alpha · clean + sigma · noise`."""

    clean: Vector
    """Estimate of the posterior mean of the clean vector."""
    noise: Vector
    """The noise that, with this clean vector, makes up the noisy one."""

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

    >>> seen = denoiser(jnp.ones(2), time=jnp.array(0.5))
    >>> seen.clean.shape, seen.noise.shape
    ((2,), (2,))

    The network sees the noisy vector at unit scale and the log-SNR, so the same denoiser serves
    any schedule: swap `schedule` with `eqx.tree_at`, or pass another one where it is used.

    Args:
        network: Maps `(noisy, log_snr, context)` to a vector, such as a `DenoisingNetwork`.
        schedule: How time is spread over noise levels, in training and sampling.
        prediction: What the output means: `predicts_velocity`, `predicts_flow`, `predicts_noise`
            or `predicts_clean`.
    """

    network: Callable[..., Vector]
    schedule: AbstractNoiseSchedule = Truncated(VPCosine())
    prediction: Prediction = eqx.field(static=True, default=predicts_velocity)

    def __check_init__(self) -> None:
        check_function("network", self.network, "a DenoisingNetwork")
        check_schedule(self.schedule)
        check_function("prediction", self.prediction, "nb.diffusion.predicts_velocity")

    def __call__(
        self, noisy: Vector, time: Scalar, context: Float[Array, " features"] | None = None
    ) -> Denoised:
        """Take a noisy vector apart at a time of the schedule: 0 is noise, 1 is data."""
        return self.at_level(noisy, self.schedule.at(time), context)

    def at_level(
        self, noisy: Vector, level: Level, context: Float[Array, " features"] | None = None
    ) -> Denoised:
        """Take a noisy vector apart at any level, which must have the scale of the vector."""
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

        It is computed from the error of the network's output, which is finite at both ends of a
        schedule. If the score $s(x)$ of the data's density is given, the prediction is compared
        with an estimate that has the same mean and less variance. By the target score identity,
        both $x$ and $(z + \sigma^2 s(x) / \alpha) / \alpha$ average to the clean vector inside $z$.
        They are combined so that the result is constant if the data are standard normal: at unit
        scale, $\alpha z + \sigma^2 (x + s(x))$.

        Reference for the identity: De Bortoli et al. (2024), arXiv:2402.08667.
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
    """A conditional network whose context is bound, so that it takes none."""

    network: Callable[..., Vector]
    context: Float[Array, " features"]

    def __call__(self, noisy: Vector, log_snr: Scalar, context: None = None) -> Vector:
        """The output at one noisy vector, in this context."""
        return self.network(noisy, log_snr, self.context)


def in_context(denoiser: Denoiser, context: Float[Array, " features"]) -> Denoiser:
    """A conditional denoiser with its context bound, to be used like an unconditional one."""
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

    >>> denoiser = partial(nb.diffusion.untrained_denoiser, width=256)
    >>> sampler = nb.DiffusionSampler(model, denoiser=denoiser)

    Args:
        rng_key: Randomness of the first weights.
        dim: Length of the vectors, which are meant to be standardised.
        width: Units of each hidden layer.
        depth: Hidden layers.
        context_size: Length of the vector that draws are conditioned on, 0 for none.
        schedule: How time is spread over noise levels; by default a cosine from log-SNR -10 to 10.
        prediction: What the output of the network means.
    """
    check_key(rng_key)
    dim = check_count("dim", dim, 1, MOST_STEPS)
    width = check_count("width", width, 1, MOST_STEPS)
    depth = check_count("depth", depth, 0, MOST_LAYERS)
    context_size = check_count("context_size", context_size, 0, MOST_STEPS)
    network = DenoisingNetwork(rng_key, dim, width, depth, context_size)
    return Denoiser(network, Truncated(VPCosine()) if schedule is None else schedule, prediction)


def check_schedule(schedule: Any) -> None:
    """Raise a ValueError unless this is a noise schedule."""
    such_as = "nb.diffusion.noise.VPCosine()"
    check_instance("schedule", schedule, AbstractNoiseSchedule, such_as)


def posterior_variance(level: Level, data_variance: Scalar | float = 1.0) -> Scalar:
    """Variance of the clean vector given a noisy one, for normal data of this variance."""
    return 1 / (1 / data_variance + jnp.exp(level.log_snr))


def renoised(rng_key: RNGKey, noisy: Vector, level: Level, noisier: Level) -> Vector:
    """Add noise to a noisy vector until it has the level `noisier`, exactly."""
    shrink = noisier.alpha / level.alpha
    # The variance to add is sigma'² - shrink² sigma², here without cancellation at close levels.
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

    The first term of the variance is what the noising chain, run backward, has for a known clean
    vector. The second is the uncertainty of that vector, whose variance is $V_t$. For normal data
    of the given variance this distribution is exact, however far the levels are apart.

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
