"""Calibration of any sampler: exact ones pass, wrong ones are found, and what fails is said."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

import numpyro_bridge as nb
from numpyro_bridge.compare.simulated_runs import Ranking, SimulatedRuns, simulated_runs
from numpyro_bridge.draws.corrections import check_correction
from numpyro_bridge.draws.plots import plot_ranks
from numpyro_bridge.draws.uniformity import simultaneous_band
from numpyro_bridge.target.data_arguments import call_without_data
from tests.compilations import listed_compilations
from tests.infer.trained import TINY

NUM, NUM_DRAWS = 150, 59
NOISE = 2.0


def normal(x, y=None):
    """A mean with a normal prior; `x` only says how many data there are."""
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("obs", dist.Normal(mu, NOISE), obs=y)


X = np.zeros(4)
SETTINGS = {"num_draws": NUM_DRAWS, "progress_bar": False}


def conjugate(scale=1.0, shift=0.0, informed=True):
    """A sampler of that model's posterior, with errors in units of its standard deviation."""

    def draw(rng_key, x, y):
        mean, sd = (np.sum(y) / (4 + NOISE**2), (1 + 4 / NOISE**2) ** -0.5) if informed else (0, 1)
        noise = np.asarray(jax.random.normal(rng_key, (NUM_DRAWS,)))
        return {"mu": mean + sd * (shift + scale * noise)}

    return draw


def calibrated(sampler, num: int = NUM, **settings) -> nb.draws.Calibration:
    key = jax.random.key(2)
    return nb.calibrate(sampler, normal, key, X, num_simulations=num, **SETTINGS, **settings)


def inside_the_band(calibration, label: str) -> bool:
    ranks = calibration.parameters[label]
    _, low, high = simultaneous_band(len(ranks), NUM_DRAWS)
    shares = np.cumsum(np.bincount(ranks, minlength=NUM_DRAWS + 1))[:-1] / len(ranks)
    return bool(np.all((low <= shares) & (shares <= high)))


# --- right and wrong samplers ---------------------------------------------------------------------


def test_an_exact_sampler_has_uniform_ranks():
    exact = calibrated(conjugate())
    assert [*exact.parameters] == ["mu", "log joint"]
    assert exact.p_value > 0.05
    assert inside_the_band(exact, "mu") and inside_the_band(exact, "log joint")
    assert exact.verdict.trustworthy
    assert "No sign of miscalibration" in exact.verdict.text
    # Draws without weights are neither corrected nor judged.
    assert exact.correction is None and exact.doubts is None
    assert "among 59 draws" in str(exact)


@pytest.mark.parametrize(
    ("num", "wrong", "label", "words"),
    [
        (300, {"scale": 0.8}, "mu", "more probable than the truth"),
        (NUM, {"scale": 0.6}, "mu", "mu: draws too narrow"),
        (NUM, {"shift": -0.5}, "mu", "mu: draws too low"),
        (NUM, {"scale": 1.8}, "log joint", "less probable than the truth"),
    ],
)
def test_a_wrong_sampler_is_found(num, wrong, label, words):
    found = calibrated(conjugate(**wrong), num)
    assert found.p_value < 1e-3
    assert not inside_the_band(found, label)
    assert not found.verdict.trustworthy
    assert "Not calibrated" in found.verdict.text and words in found.verdict.text


@pytest.fixture(scope="module")
def uninformed() -> nb.draws.Calibration:
    """Draws from the prior, whatever the data are."""
    return calibrated(conjugate(informed=False))


def test_a_sampler_that_ignores_the_data_is_found_by_the_log_joint_alone(uninformed):
    assert uninformed.p_values["mu"] > 0.05 and inside_the_band(uninformed, "mu")
    assert uninformed.p_values["log joint"] < 1e-4
    assert not inside_the_band(uninformed, "log joint")
    assert not uninformed.verdict.trustworthy


def test_the_figure_marks_lines_that_leave_the_band(uninformed):
    figure = plot_ranks(uninformed)
    assert [panel.get_title() for panel in figure.axes] == ["mu", "log joint"]
    (of_mu,), (of_joint,) = (panel.lines for panel in figure.axes)
    assert of_mu.get_color() != of_joint.get_color()


# --- samplers of every kind -----------------------------------------------------------------------


class Weighted:
    """A sampler whose draws are too wide and shifted, with weights that make up for it."""

    def __init__(self, doubts: tuple[str, ...] = ()):
        self.doubts = doubts
        self.target = nb.target_from_model(jax.random.key(0), normal, X, y=X)

    def run(self, rng_key, x, y):
        return WeightedPosterior(self, float(np.sum(y)))


class WeightedPosterior:
    def __init__(self, sampler: Weighted, total: float):
        self.sampler, self.total = sampler, total

    def sample(self, rng_key, num_samples):
        noise = np.asarray(jax.random.normal(rng_key, (num_samples,)))
        mu = self.total / (4 + NOISE**2) + 0.6 + 0.9 * noise
        log_density = -0.5 * mu**2 - 0.5 * (4 * mu**2 - 2 * mu * self.total) / NOISE**2
        return nb.Draws(
            sites={"mu": jnp.asarray(mu)},
            log_weight=jnp.asarray(log_density + 0.5 * noise**2),
            position=jnp.asarray(mu[:, None]),
            log_density=jnp.asarray(log_density),
            target=self.sampler.target,
            warnings=self.sampler.doubts,
        )


@pytest.mark.slow
def test_corrections_are_part_of_what_is_calibrated():
    settings = {"num": 60, "num_samples": 1_000}
    raw = calibrated(Weighted(), correction=None, **settings)
    chained = calibrated(Weighted(), **settings)
    resampled = calibrated(Weighted(), correction="psis", **settings)
    assert raw.p_value < 1e-3
    assert chained.p_value > 0.01 and resampled.p_value > 0.01
    assert (chained.correction, resampled.correction) == ("metropolis", "psis")
    assert chained.num_doubted == 0 and np.all(chained.ess < 0.9)


def test_runs_that_are_not_trusted_are_ranked_and_counted():
    found = calibrated(Weighted(("This sampler is not trusted.",)), num=20, num_samples=1_000)
    assert found.num_doubted == 20 and len(found.ess) == 20
    assert "20 of 20 runs are not trusted by their own verdict" in found.verdict.text


def test_a_warning_of_the_sampler_is_a_doubt():
    exact = conjugate()

    def warns(rng_key, x, y):
        warnings.warn("The data are unlike all others.", nb.ReliabilityWarning, stacklevel=2)
        return exact(rng_key, x, y)

    runs = runs_of(warns)
    assert runs.run(3).doubt == "The data are unlike all others."
    assert not runs_of(exact).run(3).doubt
    np.testing.assert_array_equal(runs.run(3).ranks["mu"], runs_of(exact).run(3).ranks["mu"])


def runs_of(sampler) -> SimulatedRuns:
    call = call_without_data(normal, (X,), {})
    return simulated_runs(jax.random.key(1), sampler, call, 20, Ranking(300, NUM_DRAWS))


def test_nuts_of_numpyro_is_a_sampler():
    """Its draws depend on each other, and are worth fewer."""
    mcmc = MCMC(NUTS(normal), num_warmup=50, num_samples=300, progress_bar=False)
    found = runs_of(mcmc).run(0)
    assert not found.failure and not found.weighted
    assert 20 < found.num_effective < 299
    assert 0 <= found.ranks["mu"] <= NUM_DRAWS


@pytest.mark.slow
def test_a_bridge_is_a_sampler_and_its_programs_are_compiled_once():
    untransformed = {"standardise": nb.no_standardisation, "num_iterations": 20}
    sampler = nb.BridgeSampler(normal, **{**TINY, **untransformed})
    with listed_compilations() as names:
        found = calibrated(sampler, num=20, num_samples=1_000)
        first = len(names)
        again = calibrated(sampler, num=20, num_samples=1_000)
    assert found.p_value > 0.01 and found.verdict.trustworthy
    assert np.all(found.ess < 0.99)  # a bridge that is hardly trained, and corrected
    assert first > 0 and len(names) == first
    assert found.seconds is not None and again.seconds is not None
    assert np.median(found.seconds[1:]) < 0.2 * found.seconds[0]
    np.testing.assert_array_equal(found.ranks["mu"], again.ranks["mu"])


# --- what fails -----------------------------------------------------------------------------------


def test_a_run_without_draws_is_said_and_the_others_are_ranked():
    exact, calls = conjugate(), []

    def fails_now_and_then(rng_key, x, y):
        calls.append(y)
        if len(calls) % 10 == 0:
            raise ArithmeticError("a factorisation failed")
        return exact(rng_key, x, y)

    found = calibrated(fails_now_and_then, num=20)
    assert (found.num_simulations, len(found.ess)) == (20, 18)
    assert not found.verdict.trustworthy
    assert "2 of 20 runs gave no draws" in found.verdict.text
    assert "ArithmeticError: a factorisation failed" in found.verdict.text


def test_a_sampler_that_always_fails_ends_at_once():
    calls = []

    def fails(rng_key, x, y):
        calls.append(y)
        raise ArithmeticError("a factorisation failed")

    with pytest.raises(RuntimeError, match="first 3 runs .* ArithmeticError") as caught:
        calibrated(fails)
    assert isinstance(caught.value.__cause__, ArithmeticError) and len(calls) == 3


@pytest.mark.slow
def test_errors_say_what_to_write_instead():
    key, target = jax.random.key(0), nb.target_from_log_density(lambda x: -jnp.sum(x**2), 1)
    with pytest.raises(ValueError, match=r"nb.calibrate\(sampler, model, rng_key, \*model_args\)"):
        nb.calibrate(conjugate(), target, key)
    with pytest.raises(ValueError, match="sampler must be such as nb.BridgeSampler"):
        nb.calibrate("NUTS", normal, key, X)
    with pytest.raises(ValueError, match="num_simulations must be a whole number >= 20"):
        nb.calibrate(conjugate(), normal, key, X, num_simulations=5)
    with pytest.raises(ValueError, match="correction should be 'metropolis', 'psis' or None"):
        check_correction("weights")
    with pytest.raises(ValueError, match="gave 59 draws, and ranks are to be among 99"):
        nb.calibrate(conjugate(), normal, key, X, progress_bar=False)
    with pytest.raises(ValueError, match=r"no draws of the latent sites \['mu'\], but of \['nu'\]"):
        calibrated(lambda rng_key, x, y: {"nu": jnp.zeros(59)})


def in_logs(y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("obs", dist.Normal(mu, 1), obs=None if y is None else jnp.log(y))


def two_sites(y=None, z=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)
    numpyro.sample("z", dist.Normal(mu, 1), obs=z)


def test_data_that_the_sampler_would_not_see_are_refused(key):
    with pytest.raises(ValueError, match=r"'y' .* changed before it is observed at 'obs'"):
        nb.calibrate(conjugate(), in_logs, key)
    with pytest.raises(ValueError, match=r"sites \['z'\] of the model are observed"):
        nb.calibrate(conjugate(), two_sites, key, z=0.3)
    with pytest.raises(ValueError, match=r"names the sites \['w'\]"):
        nb.calibrate(conjugate(), two_sites, key, 0.1, 0.2, data_sites={"y": "y", "z": "w"})


def test_draws_that_are_not_numbers_are_failures():
    broken = conjugate(scale=np.nan)
    with pytest.raises(RuntimeError, match="59 of 59 draws are not numbers"):
        calibrated(broken)
