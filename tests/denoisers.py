"""Exact denoisers: those of mixtures of normal distributions."""

import equinox as eqx
import jax
import jax.numpy as jnp

import numpyro_bridge as nb
from numpyro_bridge.diffusion.noise import Truncated, VPCosine, unit_level


class ExactVelocity(eqx.Module):
    """The best velocity for a mixture of round normal distributions."""

    weights: jax.Array
    means: jax.Array
    scales: jax.Array

    def __call__(self, noisy, log_snr, context=None):
        level = unit_level(log_snr)
        clean, noise = self.parts(noisy, level)
        return level.alpha * noise - level.sigma * clean

    def parts(self, noisy, level):
        """Posterior means of clean vector and noise."""
        variance = level.alpha**2 * self.scales**2 + level.sigma**2
        away = noisy - level.alpha * self.means
        share = jax.nn.softmax(self.log_parts(noisy, level))
        clean = self.means + (level.alpha * self.scales**2 / variance)[:, None] * away
        noise = (level.sigma / variance)[:, None] * away
        return share @ clean, share @ noise

    def log_parts(self, noisy, level):
        variance = level.alpha**2 * self.scales**2 + level.sigma**2
        squares = jnp.sum((noisy - level.alpha * self.means) ** 2, axis=1) / variance
        normaliser = 0.5 * noisy.size * jnp.log(2 * jnp.pi * variance)
        return jnp.log(self.weights) - 0.5 * squares - normaliser

    @eqx.filter_jit
    def log_prob(self, clean):
        return jax.nn.logsumexp(self.log_parts(clean, unit_level(jnp.asarray(jnp.inf))))

    @eqx.filter_jit
    def draw(self, rng_key, num):
        choice_key, noise_key = jax.random.split(rng_key)
        choice = jax.random.categorical(choice_key, jnp.log(self.weights), shape=(num,))
        noise = jax.random.normal(noise_key, (num, self.means.shape[1]))
        return self.means[choice] + self.scales[choice, None] * noise


def gaussian(mean=0.7, scale=0.5, dim: int = 2) -> ExactVelocity:
    return ExactVelocity(jnp.ones(1), jnp.full((1, dim), mean), jnp.full(1, scale))


def mixture(dim: int = 2) -> ExactVelocity:
    means = jnp.stack([jnp.full(dim, 1.2), jnp.full(dim, -0.8)])
    return ExactVelocity(jnp.asarray([0.4, 0.6]), means, jnp.asarray([0.3, 0.4]))


def exact(velocity: ExactVelocity, schedule=None) -> nb.diffusion.Denoiser:
    return nb.diffusion.Denoiser(velocity, Truncated(VPCosine()) if schedule is None else schedule)
