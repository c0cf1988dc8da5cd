"""Train a denoiser on weighted draws, in standardised coordinates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.fit_normal import DENSE_LIMIT
from numpyro_bridge.atlas.maps import AbstractAffineMap, DenseMap, diagonal_map
from numpyro_bridge.atlas.particles import particle_covariance
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.noise import (
    AbstractNoiseSchedule,
    Tabulated,
    Truncated,
    VPCosine,
)
from numpyro_bridge.diffusion.samples import SampleLosses, Samples
from numpyro_bridge.training.loop import fit
from numpyro_bridge.training.metrics import LossMetrics
from numpyro_bridge.training.training import Training

HELD_OUT = 10
"""One draw in this many is held out of training, to measure progress by."""


Network = Callable[..., Denoiser]
"""Makes a denoiser from `(rng_key, dim)`, and from `context_size=` if it is to read data."""


class LearningSettings(NamedTuple):
    """How a denoiser is learned, by the settings of `DiffusionSampler`."""

    denoiser: Network
    num_steps: int
    """Steps of the process that generates and weights draws."""
    optimizer: optax.GradientTransformation
    num_iterations: int
    num_draws: int
    """Draws in the batch of an iteration."""
    with_scores: bool
    """Whether to learn from the gradient of the log joint at the draws as well."""
    progress_bar: bool


class Divided(NamedTuple):
    """Draws to train on, and draws that are held out."""

    training: Samples
    held_out: Samples


def map_of_draws(
    position: Float[Array, "num dim"], log_weight: Float[Array, " num"]
) -> AbstractAffineMap:
    """The affine map that gives weighted draws zero mean and unit covariance."""
    mean = jax.nn.softmax(log_weight) @ position
    covariance = particle_covariance(position, log_weight)
    if position.shape[1] > DENSE_LIMIT:
        return diagonal_map(mean, jnp.sqrt(covariance))
    return DenseMap(mean, jnp.linalg.cholesky(covariance))


def samples_of(
    target: StandardisedTarget,
    position: Float[Array, "num dim"],
    log_weight: Float[Array, " num"],
    *,
    with_scores: bool,
) -> Samples:
    """Turn draws in the target's own coordinates into the samples that a loss reads.

    Draws that cannot be used keep their rows and get a weight of zero, so that code that was
    compiled for the same number of draws can be used again.

    Raises:
        ValueError: if fewer than ten draws can be used.
    """
    standardised, score, finite = _evaluated(target, position)
    usable = finite & jnp.isfinite(log_weight)
    num_usable = int(jnp.sum(usable))
    if num_usable < HELD_OUT:
        raise ValueError(
            f"{num_usable} of {len(position)} draws have a finite log density and gradient, "
            "which is too few to learn from; check that they are draws of this model's posterior"
        )
    log_weight = jnp.where(usable, log_weight, -jnp.inf)
    weighted = num_usable < len(usable) or bool(jnp.ptp(log_weight) > 0)
    return Samples(
        jnp.where(usable[:, None], standardised, 0.0),
        log_weight if weighted else None,
        jnp.where(usable[:, None], score, 0.0) if with_scores else None,
    )


@eqx.filter_jit
def _evaluated(target: StandardisedTarget, position: Float[Array, "num dim"]):
    points = jax.vmap(lambda x: target.at(target.map.inverse(x)))(position)
    inside = jnp.all(jnp.isfinite(position), axis=1)
    return points.position, points.score, points.finite & inside


def divided(rng_key: RNGKey, samples: Samples) -> Divided:
    """Hold out a tenth of the draws, chosen at random."""
    order = jax.random.permutation(rng_key, len(samples.position))
    cut = max(1, len(order) // HELD_OUT)
    return Divided(
        jax.tree.map(lambda leaf: leaf[order[cut:]], samples),
        jax.tree.map(lambda leaf: leaf[order[:cut]], samples),
    )


class Watched(eqx.Module):
    """A loss that trains on some draws and reports its value on others, which are held out.

    The held-out draws meet the same noise at every iteration, so that the reported loss changes by
    progress alone. Two objects with the same settings are equal, so that nothing is compiled anew
    for another run.

    Args:
        loss: A loss of draws, such as `diffusion_elbo`.
        num_draws: Draws in a batch.
    """

    loss: Callable[..., tuple[Scalar, SampleLosses]] = eqx.field(static=True)
    num_draws: int = eqx.field(static=True)

    def __call__(
        self, rng_key: RNGKey, module: Any, data: Divided, **settings: Any
    ) -> tuple[Scalar, SampleLosses]:
        """The loss of a batch of training draws, and the losses of a batch of held-out ones."""
        settings = {"num_draws": self.num_draws, **settings}
        loss, _ = self.loss(rng_key, module, data.training, **settings)
        held = jax.lax.stop_gradient(module)
        _, report = self.loss(jax.random.key(0), held, data.held_out, **settings)
        return loss, report


def training_levels(denoiser: Denoiser, *, with_scores: bool) -> AbstractNoiseSchedule:
    """A schedule on which the loss has little noise, with the same ends as the denoiser's.

    With scores, the error falls like `alpha² sigma²` towards both ends of the log-SNR, and a cosine
    schedule visits the levels in proportion. Without scores it rises to a constant, and all
    log-SNRs are visited equally often.

    Raises:
        ValueError: if an end is infinite.
    """
    ends = jax.vmap(denoiser.schedule.log_snr)(jnp.asarray([0.0, 1.0], jnp.result_type(float)))
    if not bool(jnp.all(jnp.isfinite(ends))):
        raise ValueError(
            f"the denoiser's schedule runs from log-SNR {ends[0]} to {ends[1]}; the loss needs "
            "finite ends, as Truncated(schedule) has"
        )
    return Truncated(VPCosine(), *map(float, ends)) if with_scores else Tabulated(ends)


def trained(
    rng_key: RNGKey, settings: LearningSettings, module: Any, loss: Any, samples: Samples
) -> Training[LossMetrics]:
    """Train a module on draws, a tenth of which are held out, for all iterations of the settings.

    Args:
        rng_key: The same key gives the same result.
        settings: Say how long to train, and with which optimiser.
        module: The module to train.
        loss: A `Watched` loss, with its settings bound.
        samples: The draws.
    """
    divide_key, fit_key = jax.random.split(rng_key)
    return fit(
        fit_key,
        module,
        loss,
        divided(divide_key, samples),
        optimizer=settings.optimizer,
        num_iterations=settings.num_iterations,
        tolerance=0.0,
        metrics=LossMetrics,
        progress_bar=settings.progress_bar,
    )
