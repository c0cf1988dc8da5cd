"""Noise schedules: how much of a vector is noise, from time 0 (noise) to time 1 (data)."""

import abc
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import Scalar, Vector

BISECTIONS = 60
"""Number of halvings of [0, 1] by which a schedule is inverted: more than a float can resolve."""


class Level(NamedTuple):
    """One noise level: `noisy = alpha · clean + sigma · noise`.

    >>> level = nb.diffusion.noise.Level(alpha=jnp.array(0.5), sigma=jnp.array(0.5))
    >>> float(level.log_snr), level.mix(jnp.ones(2), jnp.zeros(2)).tolist()
    (0.0, [0.5, 0.5])
    """

    alpha: Scalar
    sigma: Scalar

    @property
    def log_snr(self) -> Scalar:
        """`log(alpha² / sigma²)`, infinite where one of them is zero."""
        return 2 * (jnp.log(self.alpha) - jnp.log(self.sigma))

    @property
    def scale(self) -> Scalar:
        """Standard deviation of the noisy vector if that of the clean vector is one."""
        return jnp.sqrt(self.alpha**2 + self.sigma**2)

    @property
    def unit(self) -> "Level":
        """The level of the same noisy vector divided by `scale`."""
        return Level(self.alpha / self.scale, self.sigma / self.scale)

    def mix(self, clean: Vector, noise: Vector) -> Vector:
        """The noisy vector that a clean vector and noise make at this level."""
        return self.alpha * clean + self.sigma * noise


def unit_level(log_snr: Scalar) -> Level:
    """The level of unit scale that has a given log-SNR, which may be infinite.

    >>> level = nb.diffusion.noise.unit_level(jnp.array(0.0))
    >>> round(float(level.sigma), 3)
    0.707
    """
    return Level(jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr)))


class AbstractNoiseSchedule(eqx.Module):
    """A noise level for every time in [0, 1], with a log-SNR that rises from noise to data.

    >>> class Squared(nb.diffusion.noise.AbstractNoiseSchedule):
    ...     def at(self, time):
    ...         return nb.diffusion.noise.Level(time**2, 1 - time)
    >>> denoiser = partial(nb.diffusion.untrained_denoiser, schedule=Squared())

    A denoiser sees only the log-SNR of a level, and the noisy vector at unit scale. What a schedule
    decides is therefore how the time of training or sampling is spread over the levels.
    """

    @abc.abstractmethod
    def at(self, time: Scalar) -> Level:
        """The level at a time; 0 is noise, 1 is data."""

    def log_snr(self, time: Scalar) -> Scalar:
        """Log signal-to-noise ratio at a time."""
        return self.at(time).log_snr

    def rate(self, time: Scalar) -> Scalar:
        """Derivative of the log-SNR by time, positive."""
        return jax.grad(self.log_snr)(time)

    def time_of(self, log_snr: Scalar) -> Scalar:
        """The time at which the log-SNR has a given value, by bisection; 0 or 1 beyond the ends."""

        def halve(_, bounds):
            low, high = bounds
            middle = 0.5 * (low + high)
            below = self.log_snr(middle) < log_snr
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        zero = jnp.zeros_like(log_snr)
        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (zero, zero + 1))
        return 0.5 * (low + high)


class FlowPath(AbstractNoiseSchedule):
    """The straight path of flow matching: `alpha = time`, `sigma = 1 - time`.

    >>> level = nb.diffusion.noise.FlowPath().at(jnp.array(0.25))
    >>> float(level.alpha), float(level.sigma)
    (0.25, 0.75)
    """

    def at(self, time: Scalar) -> Level:
        return Level(time, 1 - time)

    def time_of(self, log_snr: Scalar) -> Scalar:
        return jax.nn.sigmoid(0.5 * log_snr)


class VPCosine(AbstractNoiseSchedule):
    """Variance preserving, a quarter of a circle: `alpha = sin(pi time / 2)`.

    >>> level = nb.diffusion.noise.VPCosine().at(jnp.array(0.5))
    >>> round(float(level.alpha), 3), round(float(level.sigma), 3)
    (0.707, 0.707)

    Reference: Nichol and Dhariwal (2021), arXiv:2102.09672, without their offset.
    """

    def at(self, time: Scalar) -> Level:
        angle = 0.5 * math.pi * time
        # A sine, since the cosine of the angle would miss zero at time 1 by a rounding error.
        return Level(jnp.sin(angle), jnp.sin(0.5 * math.pi * (1 - time)))

    def time_of(self, log_snr: Scalar) -> Scalar:
        return 2 / math.pi * jnp.arctan(jnp.exp(0.5 * log_snr))


class VPLinear(AbstractNoiseSchedule):
    r"""Variance preserving, with a noise rate that falls linearly towards the data.

    >>> level = nb.diffusion.noise.VPLinear(highest=10.0).at(jnp.array(0.5))
    >>> round(float(level.alpha**2 + level.sigma**2), 3)
    1.0

    $\log\alpha = -\tfrac14 r^2 (\beta_1 - \beta_0) - \tfrac12 r \beta_0$, with $r$ one minus time.

    Args:
        lowest: Noise rate at the data, $\beta_0$.
        highest: Noise rate at the noise, $\beta_1$.

    Reference: Ho, Jain and Abbeel (2020), arXiv:2006.11239, in the continuous form of Song et al.
    (2021), arXiv:2011.13456.
    """

    lowest: float = eqx.field(static=True, default=0.1)
    highest: float = eqx.field(static=True, default=20.0)

    def at(self, time: Scalar) -> Level:
        from_data = 1 - time
        slope = self.highest - self.lowest
        log_alpha = -0.25 * from_data**2 * slope - 0.5 * from_data * self.lowest
        return Level(jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha)))

    def time_of(self, log_snr: Scalar) -> Scalar:
        log_alpha = -0.5 * jax.nn.softplus(-log_snr)
        slope = self.highest - self.lowest
        root = jnp.sqrt(self.lowest**2 - 4 * slope * log_alpha)
        return 1 - (root - self.lowest) / slope


class VE(AbstractNoiseSchedule):
    """Variance exploding: the clean vector keeps its size, the noise falls geometrically.

    >>> schedule = nb.diffusion.noise.VE(largest=100.0)
    >>> round(float(schedule.at(jnp.array(0.0)).sigma), 3)
    100.0

    Args:
        smallest: Standard deviation of the noise at time 1, positive.
        largest: Standard deviation of the noise at time 0.

    Reference: Song et al. (2021), arXiv:2011.13456.
    """

    smallest: float = eqx.field(static=True, default=0.01)
    largest: float = eqx.field(static=True, default=50.0)

    def at(self, time: Scalar) -> Level:
        sigma = self.largest * (self.smallest / self.largest) ** time
        return Level(jnp.ones_like(time), sigma)

    def time_of(self, log_snr: Scalar) -> Scalar:
        passed = -0.5 * log_snr - math.log(self.largest)
        return jnp.clip(passed / math.log(self.smallest / self.largest), 0, 1)


class EDM(AbstractNoiseSchedule):
    r"""The noise levels of EDM's sampler: $\sigma^{1/\rho}$ falls linearly, the clean part stays.

    >>> schedule = nb.diffusion.noise.EDM(largest=40.0)
    >>> round(float(schedule.at(jnp.array(0.0)).sigma), 3)
    40.0

    Args:
        smallest: Standard deviation of the noise at time 1, positive.
        largest: Standard deviation of the noise at time 0.
        rho: How strongly steps gather at the data; 1 spreads them evenly over sigma.

    Reference: Karras et al. (2022), arXiv:2206.00364, equation 5.
    """

    smallest: float = eqx.field(static=True, default=0.002)
    largest: float = eqx.field(static=True, default=80.0)
    rho: float = eqx.field(static=True, default=7.0)

    def at(self, time: Scalar) -> Level:
        noise, data = self.largest ** (1 / self.rho), self.smallest ** (1 / self.rho)
        return Level(jnp.ones_like(time), (noise + time * (data - noise)) ** self.rho)

    def time_of(self, log_snr: Scalar) -> Scalar:
        noise, data = self.largest ** (1 / self.rho), self.smallest ** (1 / self.rho)
        root = jnp.exp(-0.5 * log_snr / self.rho)
        return jnp.clip((root - noise) / (data - noise), 0, 1)


class ScheduleFrom(AbstractNoiseSchedule):
    """Any schedule, from two functions of time.

    >>> schedule = nb.diffusion.noise.ScheduleFrom(lambda time: time**2, lambda time: 1 - time)
    >>> denoiser = partial(nb.diffusion.untrained_denoiser, schedule=schedule)

    Args:
        alpha: Share of the clean vector, rising or constant.
        sigma: Share of the noise, falling or constant; their ratio must rise strictly.
    """

    alpha: Callable[[Scalar], Scalar]
    sigma: Callable[[Scalar], Scalar]

    def at(self, time: Scalar) -> Level:
        return Level(self.alpha(time), self.sigma(time))


class Tabulated(AbstractNoiseSchedule):
    """A variance-preserving schedule that is linear in the log-SNR between knots.

    >>> schedule = nb.diffusion.noise.Tabulated(knots=jnp.array([-10.0, 0.0, 10.0]))
    >>> round(float(schedule.log_snr(jnp.array(0.75))), 3)
    5.0

    Args:
        knots: Log-SNRs at equally spaced times from 0 to 1, rising, at least two.
    """

    knots: Float[Array, " knots"]

    def at(self, time: Scalar) -> Level:
        return unit_level(self.log_snr(time))

    def log_snr(self, time: Scalar) -> Scalar:
        return jnp.interp(time, self._times, self.knots)

    def time_of(self, log_snr: Scalar) -> Scalar:
        return jnp.interp(log_snr, self.knots, self._times)

    @property
    def _times(self) -> Float[Array, " knots"]:
        return jnp.linspace(0.0, 1.0, len(self.knots), dtype=self.knots.dtype)


class Truncated(AbstractNoiseSchedule):
    """A piece of a schedule, between two of its log-SNRs.

    >>> schedule = nb.diffusion.noise.Truncated(nb.diffusion.noise.FlowPath(), -8.0, 8.0)
    >>> round(float(schedule.log_snr(jnp.array(1.0))), 3)
    8.0

    Losses over log-SNRs need a finite piece where the whole schedule runs from pure noise to pure
    data.

    Args:
        whole: The schedule.
        log_snr_min: Log-SNR at time 0.
        log_snr_max: Log-SNR at time 1, larger.

    Raises:
        ValueError: if the ends are in the wrong order.
    """

    whole: AbstractNoiseSchedule
    log_snr_min: float = eqx.field(static=True, default=-10.0)
    log_snr_max: float = eqx.field(static=True, default=10.0)

    def __check_init__(self) -> None:
        if not self.log_snr_min < self.log_snr_max:
            raise ValueError(
                "the log-SNR rises from noise to data: log_snr_min should be below log_snr_max, "
                f"got {self.log_snr_min} and {self.log_snr_max}"
            )

    def at(self, time: Scalar) -> Level:
        first, last = self._ends(time)
        return self.whole.at(first + time * (last - first))

    def time_of(self, log_snr: Scalar) -> Scalar:
        first, last = self._ends(log_snr)
        return jnp.clip((self.whole.time_of(log_snr) - first) / (last - first), 0, 1)

    def _ends(self, like: Scalar) -> tuple[Scalar, Scalar]:
        ends = (jnp.full_like(like, end) for end in (self.log_snr_min, self.log_snr_max))
        first, last = (self.whole.time_of(end) for end in ends)
        return first, last
