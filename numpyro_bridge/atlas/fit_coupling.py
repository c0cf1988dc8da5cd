"""Fit a coupling map to the shape that a target still has once it is seen through an affine map."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.finite import all_finite, where
from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead, full_jit, quick_jit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.coupling import Coupling, CouplingMap, bent_alike
from numpyro_bridge.atlas.divergence import BATCH, LONGEST, WIDER, Bent, draw_noise, loss
from numpyro_bridge.atlas.maps import DenseMap, factor_and_rotation
from numpyro_bridge.atlas.radial import Radial
from numpyro_bridge.atlas.standardised_target import (
    StandardisedTarget,
    bound_of,
    gap_of,
    weights_of_draws,
)
from numpyro_bridge.atlas.steering import NUM_SCORES, Frame, frames_of, steering
from numpyro_bridge.target import Target

SHORT, LONG = 300, 1_500
"""Numbers of steps of a short and of a long fit.

Every number of steering directions gets a short fit, and only up to three of the best get a
long one, unless a short one is good enough.
"""

SMALL_GAP, SMALL_WHERE_DEAR = 0.02, 0.05
"""A fit with a smaller gap to the evidence, in nats, is good enough, and no other is tried. Above
`BRIEF` dimensions a long fit is dear: on a hierarchy of 100 it took ten seconds more, and raised
the ESS from 0.94 to 0.99."""

AS_GOOD = 0.1
"""Short fits that miss the best one by no more than this share of the gap count as equally good."""

LARGE_GAP = 0.1
"""If the best fit with directions leaves a larger gap, in nats, coordinates are tried as well."""

BRIEF = 24
"""Dimension up to which the fit is compiled in less time, since it is brief itself: in 10
dimensions it takes less time than its compilation, and in 60 it takes more. The first short fits,
which are often the last ones, are not optimised at all for a small density."""

LEARNING_RATE = 0.02
"""Of Adam, in the first step; it falls to nothing along a cosine."""

COVERS_FROM = 0.5
"""Share of its steps from which on a covering fit covers; before, weights may say little."""

LIGHT, HEAVIEST = 0.005, 1.0
"""The rate that the training of a stretch begins with, and the largest."""


class BentMap(NamedTuple):
    """A bent map, and what its fit cost."""

    map: CouplingMap
    num_gradient_evaluations: int


def fit_coupling(
    rng_key: RNGKey,
    target: Target,
    affine: DenseMap,
    *,
    again: bool = False,
    wide: bool = False,
    covering: bool = False,
) -> BentMap:
    """Bend an affine map by a coupling, and train the whole.

    The first guess of the steering coordinates are the directions along which the curvature of the
    log density changes most.

    Args:
        rng_key: Randomness of all draws.
        target: The target in its own coordinates.
        affine: A map whose normal distribution is near the target.
        again: Whether others were bent before, so that many fits are to be expected.
        wide: Whether to fit it farther out than its draws go, if the target is no piece of another.
        covering: Whether to cover all of the target, for draws that will be weighted, at the cost
            of a lower ELBO.

    Returns:
        The bent map, from standardised coordinates to those of the target, and what it cost.
    """
    directions_key, start_key, fit_key, choice_key = split(rng_key, 4)
    standardised = StandardisedTarget(target, affine)
    short, long = _programs(target.dim, again)
    small, spent = small_gap(target.dim), NUM_SCORES

    def tried(frame: Frame, num_iterations: int) -> _Trial:
        nonlocal spent
        is_first = spent == NUM_SCORES
        spent += num_iterations * BATCH
        numbers = on_device(frame.num_leading), on_device(num_iterations)
        rest = frame.directions, *numbers, on_device(wide), on_device(covering)
        arguments = (start_key, fit_key, standardised, *rest)
        composed = (short if num_iterations == SHORT else long)(*arguments)
        log_weight = np.asarray(weights_of_draws(choice_key, composed, target), np.float64)
        bound, gap = bound_of(log_weight), gap_of(log_weight)
        if is_first and gap > small and long is not short:
            compile_ahead(long, *arguments)
        return _Trial(frame, composed, bound, gap)

    trials = _short_trials(frames_of(steering(directions_key, standardised)), tried, small)
    best = trials[0]
    if best.gap > small:
        longer = [tried(trial.frame, LONG) for trial in _finalists(trials)]
        best = _best_first([*trials, *longer])[0]
    return BentMap(best.map, spent)


def small_gap(dim: int) -> float:
    """The gap to the evidence, in nats, below which a fit is good enough."""
    return SMALL_GAP if dim <= BRIEF else SMALL_WHERE_DEAR


def compile_bending_ahead(rng_key: RNGKey, target: Target, affine: DenseMap) -> None:
    """Begin to compile what `fit_coupling` calls first."""
    standardised = StandardisedTarget(target, affine)
    compile_ahead(steering, rng_key, standardised)
    fit, _ = _programs(target.dim, again=False)
    frame, number = np.eye(target.dim, dtype=affine.location.dtype), on_device(1)
    rest = frame, number, number, on_device(False), on_device(False)
    compile_ahead(fit, rng_key, rng_key, standardised, *rest)
    compile_ahead(weights_of_draws, rng_key, unbent(affine), target)


def unbent(affine: DenseMap) -> CouplingMap:
    """A bent map of zeros, to compile programs by."""
    shapes = eqx.filter_eval_shape(bent_alike, affine)
    return jax.tree.map(lambda leaf: on_device(np.zeros(leaf.shape), leaf.dtype), shapes)


class _Trial(NamedTuple):
    """A fit, and how good it is."""

    frame: "Frame"
    map: CouplingMap
    bound: float
    """A lower bound on the log evidence, in nats."""
    gap: float
    """What an ELBO misses of the log evidence, in nats."""


def _best_first(trials: list[_Trial]) -> list[_Trial]:
    return sorted(trials, key=lambda trial: -trial.bound)


def _finalists(trials: list[_Trial]) -> list[_Trial]:
    """Up to three of the best short fits, those in which most coordinates steer.

    With more that can be shaped, more is gained by a long fit.
    """
    best = trials[0]
    near = [trial for trial in trials if best.bound - trial.bound <= AS_GOOD * best.gap]
    return sorted(near, key=lambda trial: -trial.frame.num_leading)[:3]


def _short_trials(
    groups: Sequence[Sequence[Frame]], tried: "Callable[[Frame, int], _Trial]", small: float
) -> list[_Trial]:
    """Short fits in each frame until one is good enough, the best one first."""
    trials: list[_Trial] = []
    for frames in groups:
        if trials and trials[0].gap < LARGE_GAP:
            break
        for frame in frames:
            trials = _best_first([*trials, tried(frame, SHORT)])
            if trials[0].gap < small:
                return trials
    return trials


def _rates(bent: Bent):
    """How heavy the stretches are, which must not be negative."""
    return bent.coupling.shape.heaviness, bent.radial.heaviness


def _fitted_uncompiled(
    start_key: RNGKey,
    rng_key: RNGKey,
    target: StandardisedTarget,
    directions: Float[Array | np.ndarray, "dim dim"],
    num_leading: Int[Array, ""],
    num_iterations: Int[Array, ""],
    wide: Bool[Array, ""],
    covering: Bool[Array, ""],
) -> CouplingMap:
    dim, dtype = target.dim, directions.dtype
    start = Coupling(start_key, dim, num_leading)
    width = jnp.where(wide, WIDER, 1.0).astype(dtype)
    longest = jnp.where(wide, LONGEST * math.sqrt(dim), jnp.finfo(dtype).max).astype(dtype)
    optimizer = optax.chain(optax.clip_by_global_norm(10 * math.sqrt(dim)), optax.scale_by_adam())

    def step(iteration, carry):
        bent, state = carry
        key = jax.random.fold_in(rng_key, iteration)
        noise = draw_noise(key, start.leading, width)
        cover = covering & (iteration >= COVERS_FROM * num_iterations)
        gradient = jax.grad(loss)(bent, target, noise, longest, cover)
        updates, following = optimizer.update(gradient, state, bent)
        # The number of steps is no constant here, so that one program serves short and long fits.
        rate = -LEARNING_RATE * (1 + jnp.cos(math.pi * iteration / num_iterations)) / 2
        updates = jax.tree.map(lambda update: rate.astype(dtype) * update, updates)
        moved: Any = optax.apply_updates(bent, updates)
        rates = tuple(jnp.clip(rate, 0.0, HEAVIEST) for rate in _rates(moved))
        following = (eqx.tree_at(_rates, moved, rates), following)
        return where(all_finite((gradient, moved)), following, carry)

    light = jnp.asarray(LIGHT, dtype)
    frame = jnp.asarray(directions)
    bent: Any = Bent(jnp.zeros(dim, dtype), frame, start, Radial(light))
    bent = eqx.tree_at(lambda one: one.coupling.shape.heaviness, bent, jnp.full(dim, light))
    bent, _ = jax.lax.fori_loop(0, num_iterations, step, (bent, optimizer.init(bent)))
    return _composed(target.map, bent)


_fitted = full_jit(_fitted_uncompiled)
_fitted_briefly = quick_jit(_fitted_uncompiled, optimised=True)
_fitted_once = quick_jit(_fitted_uncompiled)


def _programs(dim: int, again: bool):
    """The programs of short fits and of long ones."""
    if dim > BRIEF:
        return _fitted, _fitted
    return (_fitted_briefly if again else _fitted_once), _fitted_briefly


def _composed(affine: Any, bent: Bent) -> CouplingMap:
    """The two maps as one: a rotation makes the factor lower-triangular again."""
    factor, rotation = factor_and_rotation(affine.factor @ bent.factor)
    moved = DenseMap(affine(bent.location), factor)
    return CouplingMap(moved, rotation, bent.coupling, bent.radial)
