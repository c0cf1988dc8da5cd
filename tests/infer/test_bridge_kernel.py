"""The kernel: its moves leave the posterior invariant, and MCMC finds what it asks for."""

import pickle
from functools import partial

import arviz
import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.diagnostics import effective_sample_size, gelman_rubin
from numpyro.infer import HMC, MCMC, NUTS

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import diagonal_map
from numpyro_bridge.infer.bridge_kernel import BridgeKernelState, _step
from numpyro_bridge.processes.initial import InitialMixture
from numpyro_bridge.trajectories.ends import draw_path_to
from tests import targets
from tests.catalogue import narrow, untrained
from tests.posteriors import CMCD, X, Y, nearly_standard, posterior_of
from tests.statistics import assert_same_mean

SETTINGS = {
    "process": CMCD,
    "standardise": nearly_standard,
    "num_iterations": 25,
    "num_trajectories": 16,
    "progress_bar": False,
}
MODEL = targets.regression
MALA = partial(HMC, num_steps=1, trajectory_length=None)
CHAINS = {"num_warmup": 20, "num_samples": 600, "num_chains": 2, "progress_bar": False}


def run(kernel, *args, chain_method="vectorized", seed=0, extra_fields=(), **kwargs) -> MCMC:
    mcmc = MCMC(kernel, chain_method=chain_method, **CHAINS)
    mcmc.run(jax.random.key(seed), *args, extra_fields=extra_fields, **kwargs)
    return mcmc


@pytest.fixture(scope="module")
def first():
    """Chains in parallel, during whose compilation the bridge is trained."""
    return run(nb.BridgeKernel(MODEL, **SETTINGS), X, y=Y, chain_method="parallel")


@pytest.fixture(scope="module")
def kernel(first):
    return first.sampler


@pytest.fixture(scope="module")
def mcmc(kernel):
    return run(kernel, X, y=Y, extra_fields=("z.w", "accepted", "potential_energy"))


# --- moves ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CMCD", "UnderdampedCMCD"])
def test_every_move_leaves_the_distribution_of_paths_invariant(name):
    """Chains from exact draws, with paths from the backward chain, keep their distribution."""
    known, num = targets.skewed(), 20_000
    affine = diagonal_map(jnp.ones(2), jnp.full(2, 1.2))
    bridge = posterior_of(known.target, untrained(name), affine)
    process, target = bridge.process, bridge.target
    local = MALA(potential_fn=lambda x: -target.log_density(x), step_size=0.7)
    exact = known.draw(jax.random.key(2), num)

    def features(position, log_weight):
        bounded = jax.nn.sigmoid(log_weight - known.log_evidence)
        return jnp.concatenate([position, jnp.exp(-position), bounded[None]])

    def one_step(rng_key, position):
        path_key, local_key, step_key = jax.random.split(rng_key, 3)
        end = draw_path_to(path_key, process, target, position)
        start = local.init(local_key, 0, target.map.inverse(position), (), {})
        zero = jnp.zeros(())
        state = BridgeKernelState(
            jnp.asarray(0), {"x": position}, -end.log_density, end.log_weight, zero,
            jnp.asarray(False), zero, start, step_key,
        )  # fmt: skip
        with_local = _step(bridge, local, 0, state)
        alone = _step(bridge, None, 0, state._replace(local=None))
        moved = jnp.any(with_local.z["x"] != alone.z["x"])
        return (
            features(position, end.log_weight),
            features(alone.z["x"], alone.log_weight),
            features(with_local.z["x"], with_local.log_weight),
            jnp.stack([alone.accepted, moved]),
        )

    keys = jax.random.split(jax.random.key(3), num)
    before, after, after_local, happened = jax.jit(jax.vmap(one_step))(keys, exact)
    assert jnp.all(jnp.mean(happened, axis=0) > 0.2)
    assert_same_mean(before, after)
    assert_same_mean(before, after_local)


@pytest.mark.slow
def test_chains_of_a_bridge_that_is_off_have_the_exact_moments(mcmc):
    mean, covariance, _ = targets.regression_posterior(X, Y)
    assert 0.3 < np.mean(mcmc.get_extra_fields()["accepted"]) < 0.98
    chains = np.asarray(mcmc.get_samples(group_by_chain=True)["w"], float)
    for values, expected in ((chains, mean), (chains**2, np.diag(covariance) + mean**2)):
        error = np.std(values, axis=(0, 1)) / np.sqrt(effective_sample_size(values))
        assert np.all(np.abs(np.mean(values, axis=(0, 1)) - expected) < 4 * error)


@pytest.mark.slow
def test_global_and_local_moves_together_mix_between_modes_where_nuts_does_not():
    """A bridge that starts at both modes, in the wrong proportion and too wide, is enough."""
    known = targets.two_modes(distance=4.0)
    centres = jnp.asarray([[4.0, 4.0], [-4.0, -4.0]])
    initial = InitialMixture(jnp.zeros(2), centres, jnp.stack([1.1 * jnp.eye(2)] * 2))
    process = nb.CMCD(
        jax.random.key(0), 2, num_steps=4, control=narrow(8), diffusion=0.1, initial=initial
    )
    settings = {**CHAINS, "num_chains": 4, "num_warmup": 200, "chain_method": "vectorized"}
    start = {"x": jnp.concatenate([centres, centres])}

    def shares(kernel):
        mcmc = MCMC(kernel, **settings)
        mcmc.run(jax.random.key(1), init_params=start)
        return np.asarray(mcmc.get_samples(group_by_chain=True)["x"][..., 0] > 0, float)

    alone = shares(NUTS(potential_fn=lambda z: -known.target.log_density(z["x"])))
    # Chains that never leave their mode have no variance within, and an r-hat without bound.
    with np.errstate(divide="ignore"):
        assert gelman_rubin(alone) > 1.5
    mixed = shares(nb.BridgeKernel(posterior_of(known.target, process), local_kernel=MALA))
    assert gelman_rubin(mixed) < 1.05
    error = np.std(mixed) / np.sqrt(effective_sample_size(mixed))
    assert abs(np.mean(mixed) - targets.HEAVY) < 4 * error < 0.2


# --- what MCMC asks for ---------------------------------------------------------------------------


@pytest.mark.parametrize("chain_method", ["sequential", "vectorized"])
def test_chain_methods_give_the_same_draws_of_a_bridge_trained_once(first, mcmc, chain_method):
    kernel, posterior = first.sampler, first.sampler.posterior
    other = mcmc if chain_method == "vectorized" else run(kernel, X, y=Y, chain_method=chain_method)
    assert kernel.posterior is posterior
    np.testing.assert_allclose(other.get_samples()["w"], first.get_samples()["w"])


def test_fields_are_those_of_one_draw_each(kernel, mcmc):
    samples, fields = mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields()
    assert samples["w"].shape == (2, 600, 2) and samples["slope"].shape == (2, 600)
    np.testing.assert_array_equal(fields["z.w"], mcmc.get_samples()["w"])
    log_density = jax.vmap(kernel.posterior.target.base.log_density)(fields["z.w"])
    np.testing.assert_allclose(-fields["potential_energy"], log_density)
    assert fields["log_weight"].shape == fields["accept_prob"].shape == (1_200,)


def test_a_warm_start_goes_on_and_only_with_the_same_data(kernel, mcmc, capsys):
    copy = MCMC(kernel, chain_method="vectorized", thinning=3, **CHAINS)
    copy.post_warmup_state = mcmc.last_state
    posterior = kernel.posterior
    copy.run(jax.random.key(5), X.copy(), y=Y)
    assert kernel.posterior is posterior and copy.get_samples()["w"].shape == (400, 2)
    copy.print_summary()
    assert "w[1]" in (printed := capsys.readouterr().out) and "slope" not in printed
    with pytest.raises(ValueError, match="trained on other data.*post_warmup_state = None"):
        copy.run(jax.random.key(5), X, y=Y + 1)


@pytest.mark.slow
def test_other_data_train_another_bridge():
    x, y = targets.regression_data(seed=1)
    kernel = nb.BridgeKernel(MODEL, **SETTINGS)
    posteriors = []
    for args, kwargs in (((X,), {"y": Y}), ((X.copy(),), {"y": Y}), ((x,), {"y": y})):
        state = kernel.init(jax.random.key(0), 0, None, args, kwargs)
        posteriors.append(kernel.posterior)
    assert posteriors[0] is posteriors[1] is not posteriors[2]
    np.testing.assert_array_equal(kernel.posterior.target.base.model_args[0], x)
    assert kernel.get_diagnostics_str(state) == "paths accepted 0%"


def test_a_run_survives_pickling_and_goes_on(mcmc):
    copy = pickle.loads(pickle.dumps(mcmc))
    np.testing.assert_array_equal(copy.get_samples()["w"], mcmc.get_samples()["w"])
    copy.post_warmup_state = copy.last_state
    copy.run(jax.random.key(6), X, y=Y)
    with pytest.raises(ValueError, match="came out of a file with a bridge for other data"):
        copy.sampler.init(jax.random.key(0), 0, None, (X + 1,), {"y": Y})


def test_arviz_reads_the_run_of_a_model_and_of_a_posterior(kernel, mcmc):
    given = run(nb.BridgeKernel(kernel.posterior))
    for each in (mcmc, given):
        idata = arviz.from_numpyro(each, log_likelihood=True)
        assert idata["posterior"]["w"].shape == (2, 600, 2)
        assert idata["log_likelihood"]["y"].dims == ("chain", "draw", "n")
        assert set(idata["sample_stats"]) >= {"log_weight", "acceptance_rate"}
        np.testing.assert_array_equal(idata["observed_data"]["y"], Y)


def test_blackjax_runs_the_same_moves(kernel, key):
    mean, covariance, _ = targets.regression_posterior(X, Y)
    algorithm = nb.infer.path_metropolis(kernel.posterior)
    state, (states, info) = blackjax.util.run_inference_algorithm(
        key, algorithm, 1_000, initial_position={"w": jnp.zeros(2)}
    )
    assert 0.3 < jnp.mean(info.is_accepted) < 0.98
    chain = np.asarray(states.position["w"][None, 50:], float)
    error = np.std(chain, axis=(0, 1)) / np.sqrt(effective_sample_size(chain))
    assert np.all(np.abs(np.mean(chain, axis=(0, 1)) - mean) < 4 * error)
    with pytest.raises(ValueError, match=r"init\(position, rng_key\)"):
        algorithm.init(state.position)


def test_what_cannot_work_is_refused(kernel, mcmc, as_users):
    with pytest.raises(ValueError, match=r"needs no settings of training, got \['num_iterations'"):
        nb.BridgeKernel(kernel.posterior, num_iterations=5)
    with pytest.raises(ValueError, match="holds its data already; call mcmc.run.rng_key."):
        run(nb.BridgeKernel(kernel.posterior), X, y=Y)
    with pytest.raises(ValueError, match="pass the class or a partial, such as NUTS.*not HMC"):
        nb.BridgeKernel(MODEL, local_kernel=HMC(MODEL))
    with pytest.raises(ValueError, match="must be one JAX key.*got 0"):
        nb.BridgeKernel(MODEL, training_key=0)
    inside = nb.BridgeKernel(MODEL, **SETTINGS)
    with pytest.raises(ValueError, match="call init, or MCMC.run, outside jax.jit"):
        jax.jit(lambda x: inside.init(jax.random.key(0), 0, None, (x,), {"y": Y}).i)(X)
    with pytest.raises(ValueError, match="takes no argument 'num_step'"):
        nb.BridgeKernel(MODEL, process=partial(nb.CMCD, num_step=3))
