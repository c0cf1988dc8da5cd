"""A denoising loss taken apart: the evidence lower bound at every noise level."""

import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_count, check_function, described
from numpyro_bridge._core.normal import normal_log_prob
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.diffusion.arguments import check_learning
from numpyro_bridge.diffusion.denoiser import Denoiser, posterior_variance
from numpyro_bridge.diffusion.noise import Tabulated, unit_level
from numpyro_bridge.diffusion.samples import Samples
from numpyro_bridge.diffusion.times import stratified_times
from numpyro_bridge.diffusion.weightings import Weighting, uniform


@dataclass(frozen=True, eq=False, repr=False)
class ElboByLevel:
    r"""The error of a denoiser at each noise level, and the bounds that its integral gives.

    >>> by_level = nb.diffusion.elbo_by_level(key, denoiser, samples, num_levels=11)
    >>> axes = by_level.plot(nb.diffusion.weightings.flow, nb.diffusion.weightings.edm)

    Let $e(\lambda)$ be the mean squared error of the predicted noise. The divergence of the model
    from the noised draws, at all levels up to $\lambda$, is

    $$L(\lambda) = L(\lambda_{\min}) + \tfrac12 \int_{\lambda_{\min}}^\lambda e(\lambda')\,
      d\lambda',$$

    which is, up to a constant, the negative evidence lower bound of draws with noise of level
    $\lambda$. Integration by parts shows a weighted loss as a mixture of these bounds:

    $$\tfrac12 \int w\,e\,d\lambda = w(\lambda_{\max})\,L(\lambda_{\max}) - w(\lambda_{\min})\,
      L(\lambda_{\min}) + \int L(\lambda)\,(-dw).$$

    No bound has a negative weight in the integral if and only if $w$ never rises.

    Attributes:
        log_snr: Levels from noise to data, shape `(levels,)`.
        error: Mean squared error of the noise at each level.
        start: Divergence of the model's initial distribution from the noisiest draws, in nats.
    """

    log_snr: Float[np.ndarray, " levels"]
    error: Float[np.ndarray, " levels"]
    start: float

    @property
    def divergence(self) -> Float[np.ndarray, " levels"]:
        """The divergence $L$ at each level, by the trapezoidal rule, in nats."""
        steps = 0.25 * np.diff(self.log_snr) * (self.error[1:] + self.error[:-1])
        return self.start + np.concatenate([[0.0], np.cumsum(steps)])

    def loss(self, weighting: Weighting = uniform) -> float:
        """The weighted loss, by integration over levels."""
        weighted = self._weights(weighting) * self.error
        return float(np.sum(0.25 * np.diff(self.log_snr) * (weighted[1:] + weighted[:-1])))

    def loss_from_parts(self, weighting: Weighting = uniform) -> float:
        """The same loss as a mixture of the divergences at all levels."""
        weights, divergence = self._weights(weighting), self.divergence
        parts = self.mass(weighting) @ (0.5 * (divergence[1:] + divergence[:-1]))
        return float(weights[-1] * divergence[-1] - weights[0] * divergence[0] + parts)

    def mass(self, weighting: Weighting) -> Float[np.ndarray, " intervals"]:
        """The weight of the bounds in each interval of levels, `-dw`; negative where `w` rises."""
        return -np.diff(self._weights(weighting))

    def plot(self, *weightings: Weighting, axes: Any = None) -> Any:
        """Draw the error and the mass that each weighting puts on the bounds of all levels.

        Args:
            *weightings: Functions of log-SNR; the one that training used, for example.
            axes: Two Matplotlib axes; new ones by default.

        Returns:
            The axes.
        """
        for weighting in weightings:
            check_function("weightings", weighting, "nb.diffusion.weightings.uniform")
        if axes is not None and not (np.shape(axes) == (2,) and hasattr(axes[0], "plot")):
            raise ValueError(f"axes must be two Matplotlib axes, got {described(axes)}")
        from matplotlib import pyplot as plt

        if axes is None:
            _, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
        axes[0].plot(self.log_snr, self.error)
        axes[0].set(xlabel="log-SNR", ylabel="squared error of the noise")
        middles = 0.5 * (self.log_snr[1:] + self.log_snr[:-1])
        for weighting in weightings:
            mass = self.mass(weighting)
            name = getattr(weighting, "__name__", str(weighting))
            axes[1].plot(middles, mass / np.sum(np.abs(mass)), label=name)
        axes[1].axhline(0.0, color="grey", lw=0.5)
        axes[1].set(xlabel="log-SNR", ylabel="mass on the bound of this level")
        axes[1].legend()
        return axes

    def _weights(self, weighting: Weighting) -> Float[np.ndarray, " levels"]:
        check_function("weighting", weighting, "nb.diffusion.weightings.uniform")
        log_snr = jnp.asarray(self.log_snr, jnp.result_type(float))
        return np.asarray(jax.vmap(weighting)(log_snr), float)


def elbo_by_level(
    rng_key: RNGKey,
    denoiser: Denoiser,
    samples: Samples,
    *,
    num_levels: int = 101,
    num_draws: int = 1_024,
) -> ElboByLevel:
    """Measure the error of a denoiser at noise levels between the ends of its schedule.

    >>> by_level = nb.diffusion.elbo_by_level(key, denoiser, samples, num_levels=11)
    >>> by_level.log_snr.shape
    (11,)

    Args:
        rng_key: Randomness of draws and noise, the same at every level.
        denoiser: Trained or not; the ends of its schedule should be finite.
        samples: What it is measured on.
        num_levels: Number of levels, evenly spaced in log-SNR.
        num_draws: Draws at each level.

    Raises:
        ValueError: if the schedule begins or ends at an infinite log-SNR.
    """
    check_learning(rng_key, denoiser, samples)
    num_levels = check_count("num_levels", num_levels, 2)
    num_draws = check_count("num_draws", num_draws, 1)
    first, last = (float(denoiser.schedule.log_snr(jnp.asarray(time))) for time in (0.0, 1.0))
    if not (math.isfinite(first) and math.isfinite(last)):
        raise ValueError(
            f"the schedule runs from log-SNR {first} to {last}, and the loss over all of it "
            "is infinite; give the denoiser a piece of it, Truncated(schedule)"
        )
    levels = jnp.linspace(first, last, num_levels, dtype=samples.position.dtype)
    errors, start = _errors(rng_key, denoiser, samples, levels, num_draws)
    return ElboByLevel(np.asarray(levels, float), np.asarray(errors, float), float(start))


def adapted_schedule(
    rng_key: RNGKey,
    denoiser: Denoiser,
    samples: Samples,
    *,
    weighting: Weighting = uniform,
    num_levels: int = 101,
    num_draws: int = 256,
) -> Tabulated:
    r"""The schedule with which the loss of a denoiser, as trained so far, has the least noise.

    >>> schedule = nb.diffusion.adapted_schedule(key, denoiser, samples, num_levels=11)
    >>> loss, losses = nb.diffusion_elbo(key, denoiser, samples, schedule=schedule)

    Times are spread over log-SNRs with density $p(\lambda) \propto w(\lambda)\,e(\lambda)$, so that
    every time contributes the same to the loss on average. Pass the result to the loss as
    `schedule` for the next part of training; what the loss estimates does not change.

    Args:
        rng_key: Randomness of the measurement.
        denoiser: The denoiser that is being trained.
        samples: What it is trained on.
        weighting: The weighting of the loss.
        num_levels: Number of levels that are measured, and of knots of the schedule.
        num_draws: Draws at each level.

    Reference: Kingma and Gao (2023), arXiv:2303.00848, appendix on the adaptive noise schedule.
    Departs from it in measuring once rather than keeping averages while training.
    """
    check_function("weighting", weighting, "nb.diffusion.weightings.uniform")
    measured = elbo_by_level(rng_key, denoiser, samples, num_levels=num_levels, num_draws=num_draws)
    density = measured._weights(weighting) * measured.error
    # With a floor every level is visited, also where the present error happens to vanish.
    density = np.maximum(density, 0.02 * np.mean(density))
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    times = np.linspace(0.0, cumulative[-1], len(cumulative))
    knots = np.interp(times, cumulative, measured.log_snr)
    return Tabulated(jnp.asarray(knots, jnp.result_type(float)))


def negative_elbo(
    rng_key: RNGKey, denoiser: Denoiser, samples: Samples, *, num_draws: int = 4_096
) -> Float[Array, ""]:
    r"""An upper bound on the mean of $-\log q(x)$ under the density that the denoiser stands for.

    >>> round(float(nb.diffusion.negative_elbo(key, denoiser, samples)))
    3

    To the loss with uniform weighting it adds what lies beyond the ends of the schedule. At the
    noisy end this is the divergence of noised draws from a standard normal distribution. At the
    clean end it is minus the log density of the clean vector given the last noisy one, which is
    taken to be normal, with the variance that is right for standard normal data. The result is in
    nats per draw.

    Args:
        rng_key: Randomness of the estimate.
        denoiser: Its schedule should have finite ends.
        samples: What the bound is averaged over.
        num_draws: Number of draws, each at a time of its own, that the bound is estimated with.
    """
    check_learning(rng_key, denoiser, samples)
    num_draws = check_count("num_draws", num_draws, 1)
    return _negative_elbo(rng_key, denoiser, samples, num_draws)


@eqx.filter_jit
def _negative_elbo(rng_key, denoiser: Denoiser, samples: Samples, num_draws: int):
    loss_key, batch_key, noise_key = jax.random.split(rng_key, 3)
    batch = samples.minibatch(batch_key, num_draws)
    noise = jax.random.normal(noise_key, batch.position.shape, batch.position.dtype)
    times = stratified_times(loss_key, num_draws)
    ends = jnp.asarray([0.0, 1.0], times.dtype)
    lowest, highest = jax.vmap(denoiser.schedule.log_snr)(ends)
    first, last = unit_level(lowest), unit_level(highest)

    def bound(time, clean, noise, context):
        # Times are spread evenly over log-SNRs, so every level counts alike, whatever the schedule.
        level = unit_level(lowest + time * (highest - lowest))
        path = 0.5 * (highest - lowest) * denoiser.noise_error(clean, noise, level, context)
        estimate = denoiser.at_level(last.mix(clean, noise), last, context).clean
        scale = jnp.full_like(clean, jnp.sqrt(posterior_variance(last)))
        return path - normal_log_prob(clean, estimate, scale) + _start(clean, first)

    return jnp.mean(jax.vmap(bound)(times, batch.position, noise, batch.context))


@eqx.filter_jit
def _errors(rng_key, denoiser: Denoiser, samples: Samples, log_snrs, num_draws: int):
    batch_key, noise_key = jax.random.split(rng_key)
    batch = samples.minibatch(batch_key, num_draws)
    noise = jax.random.normal(noise_key, batch.position.shape, batch.position.dtype)

    def at(log_snr):
        error = jax.vmap(denoiser.noise_error, in_axes=(0, 0, None, 0))
        return jnp.mean(error(batch.position, noise, unit_level(log_snr), batch.context))

    start = jax.vmap(_start, in_axes=(0, None))(batch.position, unit_level(log_snrs[0]))
    return jax.lax.map(at, log_snrs), jnp.mean(start)


def _start(clean, level):
    """Divergence of a noised draw from the standard normal, at a level of unit scale."""
    shrunk = level.alpha * clean
    variance = level.sigma**2
    return 0.5 * jnp.sum(shrunk**2 + variance - 1 - jnp.log(variance))
