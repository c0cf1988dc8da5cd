"""Backward runs: they bound the evidence from above, and see what the forward chain lost."""

import warnings
from functools import partial

import arviz as az
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.weights import effective_sample_size
from numpyro_bridge.atlas.maps import identity_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.draws.backward_runs import backward_log_weights
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.trajectories.simulate import simulate_many
from tests import catalogue, targets
from tests.catalogue import narrow

NEW_ARVIZ = int(az.__version__.split(".")[0]) > 0
KNOWN = targets.conjugate_normal()
NUM = 20_000


@pytest.fixture(scope="module")
def posterior() -> nb.Posterior:
    """Hardly trained: the two bounds are apart."""
    x, y = targets.regression_data()
    sampler = nb.BridgeSampler(
        targets.regression,
        process=partial(nb.CMCD, num_steps=4, control=narrow(8)),
        standardise=nb.no_standardisation,
        num_iterations=2,
        num_trajectories=8,
        progress_bar=False,
    )
    return sampler.run(jax.random.key(0), x, y=y)


@pytest.fixture(scope="module")
def runs(posterior) -> nb.draws.BackwardRuns:
    return posterior.run_backward(jax.random.key(1), KNOWN.draw(jax.random.key(2), NUM))


def test_elbo_and_eubo_bracket_the_evidence(posterior, runs):
    draws = posterior.sample(jax.random.key(3), NUM)
    assert draws.elbo < KNOWN.log_evidence - 10 * draws.elbo_error
    assert runs.eubo > KNOWN.log_evidence + 10 * runs.eubo_error
    z = (runs.log_evidence - KNOWN.log_evidence) / runs.log_evidence_error
    assert abs(z) < 5
    np.testing.assert_allclose(runs.ess, draws.ess, atol=0.05)


def test_draws_may_have_names(posterior):
    positions = KNOWN.draw(jax.random.key(2), 50)
    by_position = posterior.run_backward(jax.random.key(1), positions)
    by_name = posterior.run_backward(jax.random.key(1), {"w": positions, "another": positions})
    np.testing.assert_allclose(by_name.log_weight, by_position.log_weight, rtol=1e-6)


def test_draws_may_be_those_of_another_sampler_in_arviz(posterior):
    positions = KNOWN.draw(jax.random.key(2), 50)
    by_position = posterior.run_backward(jax.random.key(1), positions)
    chains = np.asarray(positions).reshape(2, 25, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ has warnings of its own
        idata = (
            az.from_dict({"posterior": {"w": chains}}) if NEW_ARVIZ else az.from_dict({"w": chains})
        )
    by_chain = posterior.run_backward(jax.random.key(1), idata)
    np.testing.assert_allclose(by_chain.log_weight, by_position.log_weight, rtol=1e-6)


def test_rows_of_different_lengths_are_refused(posterior):
    with pytest.raises(ValueError, match="draws must be values by the names of sites"):
        posterior.run_backward(jax.random.key(1), {"w": [1.0, [2.0, 3.0]]})


@pytest.mark.parametrize(
    "draws, words", [({"w": 1.0}, "single number"), (jnp.zeros((0, 2)), "empty")]
)
def test_no_draws_are_refused(posterior, draws, words):
    with pytest.raises(ValueError, match=words):
        posterior.run_backward(jax.random.key(1), draws)


def test_weighted_draws_count_by_their_weights(posterior, runs):
    """Unweighted, the twenty thousand draws of this poor bridge would not follow the posterior."""
    draws = posterior.sample(jax.random.key(3), NUM)
    weighted = posterior.run_backward(jax.random.key(4), draws)
    error = np.hypot(weighted.eubo_error, runs.eubo_error) / np.sqrt(draws.ess)
    assert abs(weighted.eubo - runs.eubo) < 5 * error
    unweighted = posterior.run_backward(jax.random.key(4), draws.position)
    assert abs(unweighted.eubo - runs.eubo) > 10 * error


def test_a_lost_mode_is_seen_from_the_other_end():
    """The weights of the forward chain are nearly equal, and know nothing of the other mode."""
    known = targets.two_modes(distance=3.0)
    initial = eqx.tree_at(lambda i: i.mean, InitialNormal(2, scale=0.6), jnp.full(2, 3.0))
    settings = catalogue.SMALL | {"diffusion": 0.1, "initial": initial}
    process = nb.CMCD(jax.random.key(0), 2, **settings)
    forward = eqx.filter_jit(simulate_many)(jax.random.key(1), process, known.target, 2_000)
    assert effective_sample_size(forward.log_weight) > 0.9
    positions = known.draw(jax.random.key(2), 2_000)
    target = StandardisedTarget(known.target, identity_map(2))
    log_weight, _ = backward_log_weights(jax.random.key(3), process, target, positions)
    runs = nb.draws.BackwardRuns(log_weight)
    assert runs.eubo > known.log_evidence + 3
    assert runs.ess < 0.1


def test_draws_that_are_not_finite_are_counted(posterior, runs):
    positions = KNOWN.draw(jax.random.key(2), 50).at[3].set(jnp.nan)
    with pytest.warns(nb.ReliabilityWarning, match="1 of the 50 draws are left out"):
        with_gap = posterior.run_backward(jax.random.key(1), positions)
    assert with_gap.num_non_finite == 1 and with_gap.log_weight.shape == (49,)
    assert runs.num_non_finite == 0
    with pytest.raises(ValueError, match="none of the draws can be used"):
        posterior.run_backward(jax.random.key(1), jnp.full((3, 2), jnp.nan))


def test_what_cannot_be_run_backward_from_is_refused(posterior):
    with pytest.raises(ValueError, match=r"shape \(num, 2\), got \(4, 3\)"):
        posterior.run_backward(jax.random.key(0), jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match="'w'.* are missing"):
        posterior.run_backward(jax.random.key(0), {"v": jnp.zeros((4, 2))})
