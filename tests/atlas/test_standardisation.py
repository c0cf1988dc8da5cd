"""Standardisation: exact where the target is normal, never worse than nothing, on one mode."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas import standardisation
from numpyro_bridge.atlas.fit_normal import (
    DENSE_LIMIT,
    LAPLACE_LIMIT,
    gaussian_vi,
    laplace,
    pathfinder,
    prior_moments,
)
from numpyro_bridge.atlas.maps import (
    DenseMap,
    LowRankMap,
    as_dense,
    diagonal_map,
    identity_map,
    lower_factor,
    with_rank,
)
from numpyro_bridge.atlas.standardised_target import (
    StandardisedTarget,
    bound_of,
    elbo_of,
    gap_of,
)
from tests import targets

# --- affine maps ----------------------------------------------------------------------------------


def random_map(kind: str):
    """A map in five dimensions, far from trivial."""
    keys = jax.random.split(jax.random.key(0), 4)
    location = jax.random.normal(keys[0], (5,))
    if kind == "dense":
        root = jax.random.normal(keys[1], (5, 7))
        return DenseMap(location, lower_factor(root))
    scale = jnp.exp(jax.random.normal(keys[1], (5,)))
    if kind == "diagonal":
        return diagonal_map(location, scale)
    basis, _ = jnp.linalg.qr(jax.random.normal(keys[2], (5, 2)))
    low_rank = LowRankMap(location, scale, basis, jnp.asarray([0.1, 4.0]))
    return low_rank if kind == "low rank" else with_rank(low_rank, 4)


KINDS = ["dense", "diagonal", "low rank", "padded"]


def factor_of(map) -> np.ndarray:
    """The factor, formed by its definition."""
    if isinstance(map, DenseMap):
        return np.asarray(map.factor)
    basis, stretch = np.asarray(map.basis), np.asarray(map.stretch)
    eye = np.eye(map.location.size)
    return np.diag(map.scale) @ (eye + basis @ np.diag(stretch - 1) @ basis.T)


@pytest.mark.fast
@pytest.mark.parametrize("kind", KINDS)
def test_a_map_does_what_its_factor_says(kind):
    map, vector = random_map(kind), jax.random.normal(jax.random.key(9), (5,))
    factor = factor_of(map)
    np.testing.assert_allclose(map.multiply(vector), factor @ vector, rtol=1e-10)
    np.testing.assert_allclose(map.solve(vector), np.linalg.solve(factor, vector), rtol=1e-10)
    np.testing.assert_allclose(map.log_det_of_factor, np.linalg.slogdet(factor)[1], rtol=1e-10)
    np.testing.assert_allclose(map(vector), map.location + factor @ vector, rtol=1e-10)
    np.testing.assert_allclose(map.inverse(map(vector)), vector, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dense_map_stands_for_the_same_normal_distribution(kind):
    map = random_map(kind)
    factor, dense = factor_of(map), as_dense(map)
    np.testing.assert_allclose(dense.factor, np.tril(dense.factor))
    np.testing.assert_allclose(dense.factor @ dense.factor.T, factor @ factor.T, rtol=1e-9)
    np.testing.assert_array_equal(dense.location, map.location)


def test_a_map_of_higher_rank_cannot_be_padded_down():
    for map in (random_map("dense"), random_map("low rank")):
        with pytest.raises(ValueError, match="at most 1 directions"):
            with_rank(map, 1)


def test_lower_factor_keeps_small_scales_exact():
    """A Cholesky factor of the product would lose what is below the square root of rounding."""
    factor = np.asarray([[1e9, 0.0], [1e9, 1e-3]])
    rotation = np.asarray([[0.6, 0.8], [-0.8, 0.6]])
    np.testing.assert_allclose(lower_factor(jnp.asarray(factor @ rotation)), factor, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_standardised_target_is_the_same_distribution_in_other_coordinates(kind):
    base = targets.normal(np.arange(5.0), np.diag(np.arange(1.0, 6.0))).target
    map = random_map(kind)
    target = StandardisedTarget(base, map)
    position = jax.random.normal(jax.random.key(3), (5,))
    point = target.at(position)
    np.testing.assert_allclose(point.log_density, target.log_density(position), rtol=1e-12)
    np.testing.assert_allclose(point.score, jax.grad(target.log_density)(position), rtol=1e-9)
    np.testing.assert_allclose(
        target.log_density(position),
        base.log_density(map(position)) + map.log_det(position),
        rtol=1e-12,
    )
    np.testing.assert_allclose(target.constrain(position)["x"], map(position), rtol=1e-12)
    starts = target.initial_positions(jax.random.key(0), 3)
    assert jnp.all(jnp.abs(jax.vmap(map)(starts)) <= 2 + 1e-9)


# --- the choice -----------------------------------------------------------------------------------

SCALES = np.asarray([1e-2, 1.0, 30.0])
CORRELATION = np.asarray([[1.0, 0.95, 0.0], [0.95, 1.0, -0.2], [0.0, -0.2, 1.0]])


@functools.cache
def badly_scaled() -> targets.Known:
    """Scales three orders of magnitude apart, strong correlation, off centre."""
    covariance = CORRELATION * np.outer(SCALES, SCALES)
    return targets.normal(np.asarray([0.3, -1.0, 20.0]), covariance)


def assert_moments(map, known: targets.Known, *, rtol: float) -> None:
    """The map has mean and covariance of the normal target, in units of its scales."""
    assert isinstance(known.target, nb.target.LogDensityTarget)
    mean, precision = known.target.arrays
    covariance = np.linalg.inv(precision)
    sd = np.sqrt(np.diag(covariance))
    factor = np.asarray(as_dense(map).factor)
    np.testing.assert_allclose((map.location - mean) / sd, 0, atol=rtol)
    got = factor @ factor.T / np.outer(sd, sd)
    np.testing.assert_allclose(got, covariance / np.outer(sd, sd), atol=rtol)


def test_a_badly_scaled_normal_becomes_standard():
    known = badly_scaled()
    result = nb.standardise(jax.random.key(0), known.target)
    assert result.fit.elbo == pytest.approx(known.log_evidence, abs=1e-3)
    assert_moments(result.map, known, rtol=0.02)
    assert result.fit.elbo == max(result.fit.candidates.values())
    assert result.fit.candidates[result.fit.method] == result.fit.elbo
    # All starts agree on the best normal fit there is, so that nothing else is tried.
    assert set(result.fit.candidates) == {"no_map", "gaussian_vi"}
    assert result.num_gradient_evaluations > 0
    # Its draws are standard normal in the new coordinates.
    inverse = jax.vmap(result.map.inverse)(known.draw(jax.random.key(1), 20_000))
    np.testing.assert_allclose(np.cov(inverse.T), np.eye(3), atol=0.05)
    np.testing.assert_allclose(np.mean(inverse, axis=0), 0, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("candidate", "rtol"), [(pathfinder, 0.05), (laplace, 1e-4), (gaussian_vi, 0.01)]
)
def test_each_fit_alone_finds_a_correlated_normal(candidate, rtol):
    known = targets.normal([0.3, -1.0, 2.0], CORRELATION)
    result = nb.standardise(jax.random.key(0), known.target, candidates=(candidate,), num_starts=4)
    assert set(result.fit.candidates) == {"no_map", candidate.__name__}
    assert result.fit.method == candidate.__name__
    assert result.fit.elbo == pytest.approx(known.log_evidence, abs=1e-3)
    assert_moments(result.map, known, rtol=rtol)


def test_prior_moments_alone_are_those_of_the_prior():
    known = targets.conjugate_normal()
    result = nb.standardise(
        jax.random.key(0), known.target, candidates=(prior_moments,), nonlinear=False
    )
    maps = prior_moments(jax.random.key(0), known.target, jnp.zeros((1, 2)))
    assert isinstance(maps, LowRankMap)
    np.testing.assert_allclose(maps.location[0], 0, atol=0.2)
    np.testing.assert_allclose(maps.scale[0], 1, atol=0.15)
    assert set(result.fit.candidates) == {"no_map", "prior_moments"}
    assert result.fit.elbo == max(result.fit.candidates.values()) < known.log_evidence
    target = targets.skewed().target
    assert prior_moments(jax.random.key(0), target, jnp.zeros((1, 2))) is None


def nasty(x):
    """A funnel with a hole: curvature of both signs, and no density at all in places."""
    funnel = -0.5 * x[0] ** 2 / 9 - 0.5 * x[1] ** 2 * jnp.exp(-x[0]) - 0.5 * x[0]
    return jnp.where(x[1] < -3.0, jnp.nan, funnel)


def hopeless(rng_key, target, starts):
    """A candidate that fits nothing: maps that are not finite, or far from everything."""
    far = jnp.stack([jnp.full(target.dim, jnp.nan), jnp.full(target.dim, 1e8)])
    return jax.vmap(diagonal_map)(far, jnp.ones_like(far))


@pytest.mark.slow
def test_the_choice_is_never_worse_than_no_standardisation():
    target = nb.target_from_log_density(nasty, 2)
    result = nb.standardise(jax.random.key(0), target, candidates=(laplace, gaussian_vi, hopeless))
    noise = jax.random.normal(jax.random.key(5), (20_000, 2))
    chosen = float(elbo_of(result.map, target, noise))
    assert math.isfinite(result.fit.elbo)
    assert result.fit.elbo >= result.fit.candidates["no_map"]
    identity = float(elbo_of(identity_map(2), target, noise))
    assert chosen >= identity - 4 * abs(identity - result.fit.candidates["no_map"]) - 0.1


def test_where_nothing_fits_nothing_is_changed():
    target = targets.skewed().target
    result = nb.standardise(jax.random.key(0), target, candidates=(hopeless,), nonlinear=False)
    assert result.fit.method == "no_map"
    position = jnp.asarray([0.3, -2.0])
    np.testing.assert_allclose(result.map(position), position)
    assert result.fit.candidates["hopeless"] < result.fit.candidates["no_map"]


def test_two_hopeless_fits_do_not_end_the_search(monkeypatch):
    """As Newton's method may end where a scale of a hierarchy is free: its draws overflow."""

    def beyond_all_numbers(rng_key, target, starts):
        factor = 1e160 * jnp.eye(target.dim, dtype=starts.dtype)
        return jax.vmap(lambda start: DenseMap(start, factor))(starts[:2])

    monkeypatch.setattr(standardisation, "normal_by_newton", beyond_all_numbers)
    target = nb.target_from_log_density(lambda x: -0.5 * jnp.sum((1e8 * x) ** 2), 2)
    candidates = (beyond_all_numbers, laplace)
    chosen = nb.standardise(jax.random.key(0), target, candidates=candidates, nonlinear=False)
    assert chosen.fit is not None and chosen.fit.method == "laplace"
    found = chosen.fit.candidates
    assert found["no_map"] < found["beyond_all_numbers"] < -1e9 < found["laplace"]


def test_no_standardisation_changes_nothing():
    target = targets.skewed().target
    result = nb.no_standardisation(jax.random.key(0), target)
    assert result.fit is None and result.num_gradient_evaluations == 0
    np.testing.assert_array_equal(result.map(jnp.asarray([1.0, 2.0])), [1.0, 2.0])


def test_where_starts_disagree_the_heaviest_mode_is_taken():
    known = targets.two_modes(distance=4.0)
    result = nb.standardise(jax.random.key(0), known.target, candidates=(gaussian_vi,))
    assert result.fit.method == "gaussian_vi"
    np.testing.assert_allclose(result.map.location, [4.0, 4.0], atol=0.1)
    np.testing.assert_allclose(result.map.factor @ result.map.factor.T, 0.36 * np.eye(2), atol=0.05)
    # What such a map leaves out is the other mode.
    assert result.fit.elbo == pytest.approx(known.log_evidence + np.log(targets.HEAVY), abs=0.02)


def _diagonal_log_density(mean, scale, x):
    return -0.5 * jnp.sum(((x - mean) / scale) ** 2)


def test_many_dimensions_are_standardised_without_a_dense_matrix():
    dim = 320
    assert dim > DENSE_LIMIT
    scale = jnp.exp(jnp.linspace(-2.0, 1.0, dim))
    mean = jnp.linspace(-1.0, 1.0, dim)
    log_density = jax.tree_util.Partial(_diagonal_log_density, mean, scale)
    target = nb.target_from_log_density(log_density, dim)
    result = nb.standardise(jax.random.key(0), target, candidates=(gaussian_vi,), num_starts=2)
    assert isinstance(result.map, LowRankMap)
    log_evidence = float(jnp.sum(jnp.log(scale))) + 0.5 * dim * math.log(2 * math.pi)
    assert result.fit.elbo == pytest.approx(log_evidence, abs=0.05)
    np.testing.assert_allclose((result.map.location - mean) / scale, 0, atol=0.05)
    np.testing.assert_allclose(result.map.scale / scale, 1, atol=0.05)


def test_the_curvature_at_the_mode_is_dense_in_many_dimensions_too():
    dim = 310
    assert DENSE_LIMIT < dim < LAPLACE_LIMIT
    steps = np.arange(dim)
    covariance = np.exp(-np.abs(steps[:, None] - steps) / 50)
    known = targets.normal(np.linspace(-1.0, 1.0, dim), covariance)
    result = nb.standardise(jax.random.key(0), known.target, candidates=(laplace,), num_starts=1)
    assert isinstance(result.map, DenseMap)
    assert result.fit.elbo == pytest.approx(known.log_evidence, abs=0.05)
    assert "coupling" not in result.fit.candidates
    target = nb.target_from_log_density(lambda x: -x @ x, LAPLACE_LIMIT + 1)
    assert laplace(jax.random.key(0), target, jnp.zeros((1, LAPLACE_LIMIT + 1))) is None


def test_the_same_key_gives_the_same_map():
    run = functools.partial(
        nb.standardise, target=badly_scaled().target, candidates=(laplace,), num_starts=2
    )
    first, second = run(jax.random.key(0)), run(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, first.map, second.map)
    assert first.fit.candidates == second.fit.candidates


def test_a_few_light_draws_ruin_neither_the_gap_nor_the_bound():
    """With normal log weights both have closed forms; and no bound is above the log evidence."""
    rng, spread = np.random.default_rng(0), 0.3
    log_weight = 2.0 + spread * rng.normal(size=100_000)
    np.testing.assert_allclose(gap_of(log_weight), spread**2 / 2, rtol=0.05)
    np.testing.assert_allclose(bound_of(log_weight), 2.0 + spread**2 / 4, atol=0.005)
    ruined = np.where(np.arange(100_000) % 1_000 == 0, -1e6, log_weight)
    assert gap_of(ruined) < spread**2 / 2 + 0.03
    assert bound_of(log_weight) - 0.01 < bound_of(ruined) < 2.0 + spread**2 / 2
    assert np.isinf(gap_of(np.asarray([0.0, -np.inf])))
    assert bound_of(np.asarray([0.0, np.nan])) == -np.inf
    heavy = np.where(np.arange(100_000) % 10_000 == 0, 12.0, log_weight)
    assert gap_of(heavy) > 10.0
