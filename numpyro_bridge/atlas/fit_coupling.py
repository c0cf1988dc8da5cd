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
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.coupling import Coupling, CouplingMap, bent_alike
from numpyro_bridge.atlas.maps import DenseMap, factor_and_rotation
from numpyro_bridge.atlas.radial import Radial
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, gap_of, weights_of_draws
from numpyro_bridge.atlas.steering import NUM_SCORES, Frame, frames_of, steering
from numpyro_bridge.target import Target

SHORT, LONG, BATCH = 300, 1_500, 256
"""Numbers of steps of a short and of a long fit, and of draws in each step.

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

WIDER, LONGEST = 1.5, 10.0
"""Half of the draws of a wide fit are so much wider in the coordinates that steer, and no score is
longer than that of a standard normal times the second number.

The gradient of what is steered by them is right for any value of these coordinates, and that of the
coordinates themselves vanishes for the right map, whatever it is evaluated at. So the neck of a
funnel is fitted farther down than draws go. A piece of a posterior ends where another chart is
responsible, and is not fitted in this way.
"""

LIGHT, HEAVIEST = 0.005, 1.0
"""The rate that the training of a stretch begins with, and the largest."""


class BentMap(NamedTuple):
    """A bent map, and what its fit cost."""

    map: CouplingMap
    num_gradient_evaluations: int


def fit_coupling(
    rng_key: RNGKey, target: Target, affine: DenseMap, *, again: bool = False, wide: bool = False
) -> BentMap:
    """Bend an affine map by a coupling, trained to the highest ELBO.

    The first guess of the steering coordinates are the directions along which the curvature of the
    log density changes most. Then the whole map is trained on the ELBO, by gradients that lose
    their noise as the fit becomes perfect (Roeder et al. 2017, arXiv:1703.09194).

    Args:
        rng_key: Randomness of all draws.
        target: The target in its own coordinates.
        affine: A map whose normal distribution is near the target.
        again: Whether others were bent before, so that many fits are to be expected.
        wide: Whether to fit it farther out than its draws go, if the target is no piece of another.

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
        rest = frame.directions, *numbers, on_device(wide)
        arguments = (start_key, fit_key, standardised, *rest)
        composed = (short if num_iterations == SHORT else long)(*arguments)
        log_weight = np.asarray(weights_of_draws(choice_key, composed, target), np.float64)
        elbo = float(np.nan_to_num(np.mean(log_weight), nan=-np.inf))
        gap = gap_of(log_weight)
        if is_first and gap > small and long is not short:
            compile_ahead(long, *arguments)
        return _Trial(frame, composed, elbo, gap)

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
    rest = frame, number, number, on_device(False)
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
    elbo: float
    gap: float
    """What the ELBO misses of the log evidence, in nats."""


def _best_first(trials: list[_Trial]) -> list[_Trial]:
    return sorted(trials, key=lambda trial: -trial.elbo)


def _finalists(trials: list[_Trial]) -> list[_Trial]:
    """Up to three of the best short fits, those in which most coordinates steer.

    With more that can be shaped, more is gained by a long fit.
    """
    best = trials[0]
    near = [trial for trial in trials if best.elbo - trial.elbo <= AS_GOOD * best.gap]
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


class _Bent(eqx.Module):
    """What is trained: a stretch, a coupling, then a square factor and a shift."""

    location: Vector
    factor: Float[Array, "dim dim"]
    coupling: Coupling
    radial: Radial

    def __call__(self, noise: Vector) -> Vector:
        return self.location + self.factor @ self.coupling(self.radial(noise))

    def log_det(self, noise: Vector) -> Scalar:
        """Log determinant of the derivative at noise, up to that of the factor."""
        return self.coupling.log_det(self.radial(noise)) + self.radial.log_det(noise)


def _rates(bent: _Bent):
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
) -> CouplingMap:
    dim, dtype = target.dim, directions.dtype
    start = Coupling(start_key, dim, num_leading)
    every_other = jnp.arange(BATCH // 2)[:, None] % 2 == 0
    width = jnp.where(wide & every_other & (start.leading > 0), WIDER, 1.0).astype(dtype)
    longest = jnp.where(wide, LONGEST * math.sqrt(dim), jnp.finfo(dtype).max).astype(dtype)
    optimizer = optax.chain(optax.clip_by_global_norm(10 * math.sqrt(dim)), optax.scale_by_adam())

    def step(iteration, carry):
        bent, state = carry
        key = jax.random.fold_in(rng_key, iteration)
        noise = jax.random.normal(key, (BATCH // 2, dim), dtype) * width
        gradient = jax.grad(_loss)(bent, target, jnp.concatenate([noise, -noise]), longest)
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
    bent: Any = _Bent(jnp.zeros(dim, dtype), frame, start, Radial(light))
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


def _loss(bent: _Bent, target: Target, noise: Float[Array, "draws dim"], longest: Scalar) -> Scalar:
    """A function whose gradient is that of minus the ELBO through the draws alone.

    No draw pulls harder than by a vector of the length `longest`, in the coordinates of the noise.

    The slope of the map's own log density at a draw follows from that at the noise, without any
    inverse of the bent parts (Vaitl et al. 2024, arXiv:2403.15881).
    """
    held = jax.lax.stop_gradient(bent)
    inverse_factor = jnp.linalg.inv(held.factor)

    def along(noise):
        position = bent(noise)
        slope = -noise - jax.grad(held.log_det)(noise)
        stretched = held.radial(noise)
        slope = held.coupling.solve(stretched, held.radial.solve(noise, slope))
        ascent = target.at(jax.lax.stop_gradient(position)).score - slope @ inverse_factor
        length = jnp.linalg.norm(ascent @ held.factor)
        ascent = ascent * (longest / jnp.maximum(length, longest))
        return jax.lax.stop_gradient(ascent) @ position

    return -jnp.mean(jax.vmap(along)(noise))


def _composed(affine: Any, bent: _Bent) -> CouplingMap:
    """The two maps as one: a rotation makes the factor lower-triangular again."""
    factor, rotation = factor_and_rotation(affine.factor @ bent.factor)
    moved = DenseMap(affine(bent.location), factor)
    return CouplingMap(moved, rotation, bent.coupling, bent.radial)
