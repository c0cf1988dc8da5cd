"""Log densities of many rows: their differences are exact, and the constant is not lost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core import weights
from numpyro_bridge.target.reference import spacing
from numpyro_bridge.target.relative import COARSE, with_reference

NUM_ROWS, UNIT = 5_000, 1_000.0
"""Rows, and a unit in which each has a log density of about minus eight."""


def line(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, UNIT))
    b = numpyro.sample("b", dist.Normal(0, UNIT))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(a + b * x, UNIT), obs=y)


class Exact:
    """The closed form, in double precision."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=NUM_ROWS).astype(np.float32)
        self.y = (UNIT * (0.3 + 0.5 * self.x + rng.normal(size=NUM_ROWS))).astype(np.float32)
        self.columns = np.stack([np.ones(NUM_ROWS), self.x], axis=1).astype(float)
        self.scaled = self.y.astype(float) / UNIT
        precision = np.eye(2) + self.columns.T @ self.columns
        self.mean = np.linalg.solve(precision, self.columns.T @ self.scaled)
        self.covariance = np.linalg.inv(precision)
        self.log_evidence = (
            -0.5 * NUM_ROWS * np.log(2 * np.pi * UNIT**2)
            - 0.5 * self.scaled @ self.scaled
            + 0.5 * self.mean @ precision @ self.mean
            - 0.5 * np.linalg.slogdet(precision)[1]
        )

    def draws(self, num):
        noise = np.random.default_rng(1).normal(size=(num, 2))
        return UNIT * (self.mean + noise @ np.linalg.cholesky(self.covariance).T)

    def log_density(self, position):
        position = np.asarray(position, float) / UNIT
        rest = self.scaled - self.columns @ position
        count = NUM_ROWS + 2
        return (
            -0.5 * count * np.log(2 * np.pi * UNIT**2)
            - 0.5 * rest @ rest
            - 0.5 * position @ position
        )


@pytest.fixture(scope="module", autouse=True)
def in_32_bits():
    with jax.enable_x64(False):
        yield


@pytest.fixture(scope="module")
def exact():
    return Exact()


@pytest.fixture(scope="module")
def target(exact):
    whole = nb.target_from_model(jax.random.key(0), line, exact.x, y=exact.y)
    return whole, with_reference(jax.random.key(1), whole)


def test_differences_of_large_log_densities_are_exact(exact, target):
    whole, relative = target
    positions = jnp.asarray(exact.draws(200), jnp.float32)
    expected = np.asarray([exact.log_density(position) for position in positions])
    errors = {
        name: np.asarray(jax.vmap(one.log_density)(positions), float) + one.log_scale - expected
        for name, one in {"whole": whole, "relative": relative}.items()
    }
    assert relative.reference is not None
    assert np.std(errors["relative"]) < 2e-4 < 1.5e-3 < np.std(errors["whole"])
    # What is left is one constant: the data were rounded before they came here.
    assert abs(np.mean(errors["relative"])) < 0.05


def test_prior_and_likelihood_add_up_to_the_relative_density(exact, target):
    _, relative = target
    for position in jnp.asarray(exact.draws(3), jnp.float32):
        parts = relative.log_prior(position) + relative.log_likelihood(position)
        assert abs(parts - relative.log_density(position)) < 2e-3
    assert jnp.allclose(relative.log_prior(position), target[0].log_prior(position))


def test_small_log_densities_stay_as_they_are(exact):
    small = nb.target_from_model(jax.random.key(0), line, exact.x[:50], y=exact.y[:50])
    assert with_reference(jax.random.key(1), small) is small
    assert spacing(float(small.log_density(jnp.asarray(exact.mean * UNIT)))) < COARSE


def test_new_data_have_no_reference_of_the_old(exact, target):
    assert target[1].with_arguments(exact.x, y=exact.y + 1).reference is None


@pytest.fixture(scope="module")
def posterior(exact):
    affine = partial(nb.atlas.chart, bend=False)
    sampler = nb.BridgeSampler(line, charts=affine, progress_bar=False)
    return sampler.run(jax.random.key(0), exact.x, y=exact.y)


@pytest.mark.slow
def test_the_evidence_of_many_rows_is_right(exact, posterior):
    draws = posterior.sample(jax.random.key(1), 2_000)
    assert draws.verdict.trustworthy
    assert abs(draws.log_evidence - exact.log_evidence) < 3 * draws.log_evidence_error + 0.03
    assert abs(draws.elbo - draws.log_evidence) < 0.05
    assert draws.ess > 0.9
    assert abs(posterior.atlas.log_evidence - exact.log_evidence) < 0.1
    # The posterior is normal and so is the map: in steps of 0.004 the weights would differ more.
    assert np.ptp(draws.log_weight) < 1e-3


def test_backward_runs_and_arviz_have_the_whole_density(exact, posterior):
    draws = posterior.sample(jax.random.key(1), 200)
    backward = posterior.run_backward(jax.random.key(2), draws)
    assert abs(backward.eubo - exact.log_evidence) < 0.1
    assert abs(backward.log_evidence - exact.log_evidence) < 0.1
    kept = nb.to_inference_data(draws, num_chains=1, correction=None, log_likelihood=False)
    lp = np.asarray(kept["sample_stats"]["lp"]).ravel()
    assert lp[0] == pytest.approx(exact.log_density(draws.position[0]), abs=0.1)


def test_a_file_brings_the_same_weights_back(exact, posterior, tmp_path):
    posterior.save(tmp_path / "line.bridge")
    loaded = nb.load(tmp_path / "line.bridge", line)
    before, after = (one.sample(jax.random.key(1), 200) for one in (posterior, loaded))
    np.testing.assert_allclose(before.log_weight, after.log_weight, atol=1e-4)
    assert before.log_evidence == pytest.approx(after.log_evidence, abs=1e-4)


def narrower(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, UNIT))
    b = numpyro.sample("b", dist.Normal(0, UNIT))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(a + b * x, 1.01 * UNIT), obs=y)


def test_a_file_of_another_constant_is_refused(exact, posterior, tmp_path):
    posterior.save(tmp_path / "line.bridge")
    with pytest.raises(ValueError, match="the log density at a fixed point is"):
        nb.load(tmp_path / "line.bridge", narrower)
    with pytest.raises(ValueError, match="the log density at a fixed point is"):
        nb.load(tmp_path / "line.bridge", line, exact.x, y=1.001 * exact.y)


def shifted(offset, position):
    return -0.5 * jnp.sum(position**2) - jnp.log1p(position[0] ** 2) + offset


def test_a_constant_in_a_log_density_leaves_the_tail_of_the_weights_alone():
    positions = 1.3 * np.random.default_rng(2).normal(size=(4_000, 2))
    proposal = jnp.asarray(-0.5 * np.sum(positions**2, axis=1) / 1.3**2)
    tails = {}
    for offset in (0.0, -3e4):
        fn = jax.tree_util.Partial(shifted, jnp.asarray(offset))
        target = with_reference(jax.random.key(0), nb.target_from_log_density(fn, 2))
        log_density = jax.vmap(target.log_density)(jnp.asarray(positions, jnp.float32))
        resolution = 0.0 if target.reference is None else target.reference.resolution
        tails[offset] = weights.pareto_smooth(log_density - proposal, resolution).pareto_k
    assert tails[-3e4] == pytest.approx(tails[0.0], abs=0.05)


def test_ties_of_rounded_weights_do_not_hide_the_tail():
    log_weight = np.random.default_rng(3).normal(0, 0.05, 4_000)
    resolution = float(np.spacing(np.float32(1e5)))
    rounded = (log_weight.astype(np.float32) - np.float32(1e5)).astype(float)
    k = weights.pareto_smooth(log_weight).pareto_k
    assert weights.pareto_smooth(rounded, resolution).pareto_k == pytest.approx(k, abs=0.05)


def test_a_log_density_that_32_bits_cannot_hold_is_a_reason_for_doubt():
    target = nb.target_from_log_density(jax.tree_util.Partial(shifted, 0.0), 2)
    num = 500
    draws = nb.Draws(
        sites={"x": jnp.zeros((num, 2))},
        log_weight=jnp.zeros(num),
        position=jnp.zeros((num, 2)),
        log_density=jnp.full(num, -3e6),
        target=target,
    )
    assert not draws.verdict.trustworthy
    assert "enable_x64" in draws.verdict.text
