"""Observations left out of a regression, of which every predictive density is known exactly."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal

import numpyro_bridge as nb
from numpyro_bridge.compare.leave_out import _numbered, leave_out
from numpyro_bridge.infer.refit import refit, sampler_from
from tests import targets

X, Y = targets.regression_data()
GROUPS = np.array([7, 7, 3, 3, 3, -1])


@pytest.fixture(scope="module")
def posterior():
    return nb.BridgeSampler(targets.regression, progress_bar=False).run(jax.random.key(0), X, y=Y)


def evidence(keep):
    """Log density of some of the data."""
    design = np.stack([np.ones_like(X), X], axis=1)[keep]
    covariance = design @ design.T + targets.NOISE**2 * np.eye(len(design))
    return multivariate_normal.logpdf(Y[keep], np.zeros(len(design)), covariance)


def exact(out):
    """Log density of what is left out, given the rest."""
    return evidence(np.full(len(Y), True)) - evidence(~out)


def test_every_observation_alone(posterior):
    found = leave_out(jax.random.key(1), posterior)
    expected = np.array([exact(np.arange(len(Y)) == number) for number in range(len(Y))])
    assert found.labels == tuple(f"y[{number}]" for number in range(len(Y)))
    assert np.all(np.abs(found.elpd - expected) < 4 * found.error + 1e-4)
    assert np.all(found.error < 0.05) and found.trusted.all()
    np.testing.assert_array_equal(found.refitted, ~(found.pareto_k < 0.5))
    assert found.total == pytest.approx(np.sum(found.elpd))
    assert found.total_error == pytest.approx(np.sqrt(6) * np.std(found.elpd))
    assert list(found.table.index) == list(found.labels) and "6 groups" in repr(found)


@pytest.mark.slow
def test_groups_are_left_out_by_refitting(posterior):
    found = leave_out(jax.random.key(2), posterior, {"y": GROUPS}, refit_all=True)
    assert found.labels == ("3", "7") and found.refitted.all() and found.trusted.all()
    expected = np.array([exact(GROUPS == 3), exact(GROUPS == 7)])
    assert np.all(np.abs(found.elpd - expected) < 4 * found.error + 1e-4)
    assert np.all(found.error < 0.05)
    by_weights = leave_out(jax.random.key(2), posterior, {"y": GROUPS})
    np.testing.assert_array_equal(by_weights.pareto_k, found.pareto_k)


@pytest.mark.slow
def test_a_refit_has_the_evidence_of_its_own_data_and_explores_nothing(posterior):
    fewer = refit(jax.random.key(3), posterior, X[:5], y=Y[:5])
    draws = fewer.sample(jax.random.key(4))
    error = draws.log_evidence - evidence(np.arange(6) < 5)
    assert abs(error) < 4 * draws.log_evidence_error + 1e-4
    assert draws.verdict.trustworthy
    assert "the charts began at those of other data" in draws.verdict.text
    assert fewer.atlas is not None and fewer.atlas.num_climbs == 0
    # One look by probes, and fits from the best of them: nothing else is to be paid for.
    assert (fewer.report.num_gradient_evaluations or 0) <= 16_384 + 8 * 100 * 64 + 4_096


def test_other_sites_are_no_refit(posterior):
    def model(x):
        numpyro.sample("w", dist.Normal().expand([len(x)]).to_event(1))

    with pytest.raises(ValueError, match="the latent sites have the shapes"):
        sampler_from(posterior, model).run(jax.random.key(0), X)


@pytest.mark.fast
@pytest.mark.parametrize(
    "groups, message",
    [
        ({"y": [0, 1]}, "of the shapes"),
        ({"x": [0] * 6}, "of the shapes"),
        ({"y": [0.5] * 6}, "whole numbers"),
        ({"y": [-1] * 6}, "leaves nothing out"),
        ({}, "whole numbers"),
        ([0] * 6, "dictionary"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        _numbered(groups, {"y": (6,)})


@pytest.mark.fast
def test_groups_may_have_observations_of_several_sites():
    labels, places = _numbered({"y": [[4, 9], [9, -1]]}, {"y": (2, 2), "z": (3,)})
    assert labels == ("4", "9")
    np.testing.assert_array_equal(places["y"], [[0, 1], [1, -1]])
    np.testing.assert_array_equal(places["z"], [-1, -1, -1])
    labels, places = _numbered(None, {"y": (1, 2), "z": ()})
    assert labels == ("y[0,0]", "y[0,1]", "z") and places["z"] == 2
