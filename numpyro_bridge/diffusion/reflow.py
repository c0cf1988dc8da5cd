"""Reflow: straighten a flow by training it again on pairs of its own noise and draws."""

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge._core.checks import MOST_STEPS, check_count, check_key
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.diffusion.arguments import check_context, check_denoiser
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.generation.base import Context, Noisy
from numpyro_bridge.diffusion.generation.flow_steps import heun_step
from numpyro_bridge.diffusion.generation.generate import even_times, generate_from
from numpyro_bridge.diffusion.noise import FlowPath
from numpyro_bridge.diffusion.samples import Samples


def reflow_pairs(
    rng_key: RNGKey,
    denoiser: Denoiser,
    num: int,
    *,
    dim: int,
    num_steps: int = 64,
    context: Context = None,
) -> Samples:
    """Noise, paired with the draws to which the flow carries it, for training the flow again.

    A flow that is trained on its own pairs by `flow_matching` makes draws of the same distribution,
    up to errors of training, by straighter paths, so that few steps suffice:

    >>> pairs = nb.diffusion.reflow_pairs(key, denoiser, 1_000, dim=2)
    >>> loss, losses = nb.flow_matching(key, denoiser, pairs)

    Train on this loss by `nb.training.fit`, and generate from `with_flow_path` of the result by a
    few steps of `euler_step`.

    Args:
        rng_key: Randomness of the noise.
        denoiser: A trained denoiser of any schedule.
        num: Number of pairs.
        dim: Length of a draw.
        num_steps: Steps of Heun's method from noise to draw, two evaluations of the network each.
        context: What all draws are conditioned on.

    Reference: Liu, Gong and Liu (2023), arXiv:2209.03003.
    """
    sizes = _checked(rng_key, denoiser, num, dim, num_steps)
    check_context(context)
    return _reflow_pairs(rng_key, denoiser, *sizes, context)


@eqx.filter_jit
def _reflow_pairs(rng_key, denoiser: Denoiser, num: int, dim: int, num_steps: int, context):
    noise = jax.random.normal(rng_key, (num, dim), jnp.result_type(float))
    draws = jax.vmap(lambda z: carried(z, denoiser, num_steps, context))(noise)
    return Samples(draws, noise=noise)


def curvature(
    rng_key: RNGKey, denoiser: Denoiser, num: int = 1_000, *, dim: int, num_steps: int = 64
) -> Scalar:
    r"""How far the paths of a flow are from straight lines, zero if they are.

    >>> round(float(nb.diffusion.curvature(key, denoiser, dim=2)))
    1

    $$\int_0^1 \mathbb{E} \lVert (z_1 - z_0) - \hat u(z_t, t) \rVert^2 dt$$

    Args:
        rng_key: Randomness of the noise that the paths start from.
        denoiser: The flow.
        num: Number of paths.
        dim: Length of a draw.
        num_steps: Steps of Heun's method along each path.
    """
    return _curvature(rng_key, denoiser, *_checked(rng_key, denoiser, num, dim, num_steps))


@eqx.filter_jit
def _curvature(rng_key, denoiser: Denoiser, num: int, dim: int, num_steps: int):
    straight, times = with_flow_path(denoiser), even_times(num_steps)
    noise = jax.random.normal(rng_key, (num, dim), jnp.result_type(float))

    def bend(start):
        def advance(noisy: Noisy, time):
            flow = straight(noisy.position, noisy.time).flow
            return heun_step(rng_key, straight, noisy, time), flow

        last, flows = jax.lax.scan(advance, _noisy(start, times[0]), times[1:])
        return jnp.mean(jnp.sum((last.position - start - flows) ** 2, axis=1))

    return jnp.mean(jax.vmap(bend)(noise))


def _checked(rng_key, denoiser, num, dim, num_steps) -> tuple[int, int, int]:
    check_key(rng_key)
    check_denoiser(denoiser)
    return (
        check_count("num", num, 1),
        check_count("dim", dim, 1, MOST_STEPS),
        check_count("num_steps", num_steps, 1, MOST_STEPS),
    )


def with_flow_path(denoiser: Denoiser) -> Denoiser:
    """The same denoiser on the straight path, from pure noise to pure data.

    >>> straight = nb.diffusion.with_flow_path(denoiser)
    >>> float(straight.schedule.at(jnp.array(0.25)).alpha)
    0.25
    """
    check_denoiser(denoiser)
    return Denoiser(denoiser.network, FlowPath(), denoiser.prediction)


def carried(noise: Vector, denoiser: Denoiser, num_steps: int, context: Context = None) -> Vector:
    """Where `num_steps` steps of Heun's method along the straight path carry standard noise."""
    times = even_times(num_steps)
    keys = jax.random.split(jax.random.key(0), num_steps)  # not used by a deterministic step
    start = _noisy(noise, times[0])
    return generate_from(keys, with_flow_path(denoiser), heun_step, times, start, context)


def _noisy(position, time: Scalar) -> Noisy:
    return Noisy(position, time, jnp.zeros_like(position), time)
