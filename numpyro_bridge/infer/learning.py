"""From weighted draws to a trained denoiser and its process, in standardised coordinates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
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
"""One draw in so many is kept from training, to see whether it still learns."""


class Divided(NamedTuple):
    """Draws to learn from, and draws to look at."""

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
    """Draws in the target's own coordinates as what a loss reads.

    Those that it cannot use are left in with a weight of zero, so that code compiled for as many
    draws serves again.

    Raises:
        ValueError: if less than ten can be used.
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
    """A tenth of the draws, by chance, held out."""
    order = jax.random.permutation(rng_key, len(samples.position))
    cut = max(1, len(order) // HELD_OUT)
    return Divided(
        jax.tree.map(lambda leaf: leaf[order[cut:]], samples),
        jax.tree.map(lambda leaf: leaf[order[:cut]], samples),
    )


class Watched(eqx.Module):
    """A loss of draws that learns from some and reports on others, which are held out.

    These meet the same noise at every iteration: what is left between two of them is progress.
    One of the same settings is equal, so that nothing is compiled anew for another run.

    Args:
        loss: Such as `diffusion_elbo`.
        num_draws: Draws in a batch.
    """

    loss: Callable[..., tuple[Scalar, SampleLosses]] = eqx.field(static=True)
    num_draws: int = eqx.field(static=True)

    def __call__(
        self, rng_key: RNGKey, module: Any, data: Divided, **settings: Any
    ) -> tuple[Scalar, SampleLosses]:
        """The loss of a batch to learn from, and what it says of one that is held out."""
        settings = {"num_draws": self.num_draws, **settings}
        loss, _ = self.loss(rng_key, module, data.training, **settings)
        held = jax.lax.stop_gradient(module)
        _, report = self.loss(jax.random.key(0), held, data.held_out, **settings)
        return loss, report


def training_levels(denoiser: Denoiser, *, with_scores: bool) -> AbstractNoiseSchedule:
    """The schedule on which the loss has little noise, between the ends of the denoiser's.

    With scores the error falls like `alpha² sigma²` towards both ends, and a cosine visits them
    accordingly; without, it rises to a constant, and all log-SNRs are visited alike.

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
    rng_key: RNGKey, sampler: Any, module: Any, loss: Any, samples: Samples
) -> Training[LossMetrics]:
    """Train a module on draws, a tenth of them held out, for all iterations of a sampler.

    Args:
        rng_key: The same key gives the same result.
        sampler: A `DiffusionSampler`, whose settings are used.
        module: What is trained.
        loss: `Watched`, with its settings bound.
        samples: The draws.
    """
    divide_key, fit_key = jax.random.split(rng_key)
    return fit(
        fit_key,
        module,
        loss,
        divided(divide_key, samples),
        optimizer=sampler.optimizer,
        num_iterations=sampler.num_iterations,
        tolerance=0.0,
        metrics=LossMetrics,
        progress_bar=sampler.progress_bar,
    )


Network = Callable[[RNGKey, int], Denoiser]
