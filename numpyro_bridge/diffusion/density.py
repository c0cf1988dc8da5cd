"""The log density of a denoiser's flow, by solving its ordinary differential equation."""

import math
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_count, check_key, check_positive
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.diffusion.arguments import check_context, check_denoiser, check_vector
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.generation.base import Context
from numpyro_bridge.diffusion.noise import Level

EXACT_TRACE_LIMIT = 64
"""Dimension up to which the divergence of the flow is exact; beyond it, it is estimated."""


def log_density(
    denoiser: Denoiser,
    clean: Vector,
    *,
    context: Context = None,
    rng_key: RNGKey | None = None,
    num_probes: int = 8,
    tolerance: float = 1e-5,
) -> Scalar:
    r"""Log density, in nats, that the deterministic flow gives to a vector.

    >>> round(float(nb.diffusion.log_density(denoiser, jnp.zeros(2))), 2)
    -1.84

    $$\log q(x) = \log p_0(z_0) - \int \nabla \cdot \hat u(z_\tau, \tau)\, d\tau, \qquad
      dz_\tau = \hat u(z_\tau, \tau)\, d\tau$$

    on the straight path, between the levels at the ends of the denoiser's schedule. Noise of the
    last level is still in the draws whose density this is, so the schedule should end at a large
    log-SNR.

    Args:
        denoiser: Trained on standardised data, with a schedule of finite ends.
        clean: Where to evaluate, shape `(dim,)`.
        context: What the density is conditioned on.
        rng_key: Randomness of the estimated divergence; needed beyond 64 dimensions only.
        num_probes: Number of random sign vectors in Hutchinson's estimate of the divergence. They
            are the same along the whole path, which makes the result unbiased and reproducible.
        tolerance: Relative and absolute error of a step of the solver.

    Raises:
        ImportError: if diffrax is not installed.
        ValueError: if there are more than 64 dimensions and no `rng_key`.

    Reference: Chen et al. (2018), arXiv:1806.07366; Grathwohl et al. (2019), arXiv:1810.01367.
    """
    check_denoiser(denoiser)
    check_vector("clean", clean)
    check_context(context)
    tolerance = check_positive("tolerance", tolerance)
    dim = clean.shape[0]
    probes = _probes(rng_key, num_probes, clean)

    def velocity(time, state, _):
        def flow(position):
            return denoiser.at_level(position, Level(time, 1 - time), context).flow

        value, push = jax.linearize(flow, state[0])
        return value, jnp.sum(probes * jax.vmap(push)(probes))

    first, last = straight_ends(denoiser)
    start = (last * clean, jnp.zeros((), clean.dtype))
    # From the data back to the noise, the divergence is added up with the opposite sign.
    position, divergence = solved(velocity, start, last, first, tolerance)
    scale = jnp.sqrt(first**2 + (1 - first) ** 2)
    log_noise = -0.5 * jnp.sum((position / scale) ** 2)
    log_noise -= dim * (jnp.log(scale) + 0.5 * math.log(2 * math.pi))
    return log_noise + divergence + dim * jnp.log(last)


def _probes(rng_key: RNGKey | None, num: int, like: Vector) -> Float[Array, "probes dim"]:
    """Vectors along which the divergence is taken: of all coordinates, or random signs."""
    num = check_count("num_probes", num, 1)
    if rng_key is not None:
        check_key(rng_key)
    if like.size <= EXACT_TRACE_LIMIT:
        return jnp.eye(like.size, dtype=like.dtype)
    if rng_key is None:
        raise ValueError(
            f"beyond {EXACT_TRACE_LIMIT} dimensions the divergence is estimated, which needs "
            f"rng_key=...; this vector has {like.size}"
        )
    return jax.random.rademacher(rng_key, (num, like.size), like.dtype) / math.sqrt(num)


def flow_of(
    denoiser: Denoiser, noise: Vector, *, context: Context = None, tolerance: float = 1e-5
) -> Vector:
    """The draw to which the flow carries standard normal noise, by the solver of `log_density`.

    >>> nb.diffusion.flow_of(denoiser, jnp.array([1.0, -1.0])).round(2).tolist()
    [1.0, -1.0]

    Raises:
        ImportError: if diffrax is not installed.
    """
    check_denoiser(denoiser)
    check_vector("noise", noise)
    check_context(context)
    tolerance = check_positive("tolerance", tolerance)

    def velocity(time, position, _):
        return denoiser.at_level(position, Level(time, 1 - time), context).flow

    first, last = straight_ends(denoiser)
    start = jnp.sqrt(first**2 + (1 - first) ** 2) * noise
    return solved(velocity, start, first, last, tolerance) / last


def straight_ends(denoiser: Denoiser) -> tuple[Scalar, Scalar]:
    """Times of the straight path at the levels where the denoiser's schedule begins and ends."""
    zero = jnp.zeros((), jnp.result_type(float))
    ends = (denoiser.schedule.at(time) for time in (zero, zero + 1))
    first, last = (level.alpha / (level.alpha + level.sigma) for level in ends)
    return first, last


def solved(velocity: Any, start: Any, first: Scalar, last: Scalar, tolerance: float) -> Any:
    """Solve an ordinary differential equation from `start` at time `first` up to time `last`."""
    diffrax = _diffrax()
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Tsit5(),
        first,
        last,
        None,
        start,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=4_096,
    )
    return jax.tree.map(lambda leaf: leaf[-1], solution.ys)


def _diffrax() -> Any:
    try:
        return import_module("diffrax")
    except ImportError as error:
        raise ImportError(
            "the density of a flow is found with diffrax, which could not be imported; "
            'install it: pip install "numpyro-bridge[ode]"'
        ) from error
