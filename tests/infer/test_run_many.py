"""Many data sets: each gets what it would have got alone, and a failure stops no other."""

import re
import signal

import jax
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.infer.many_posteriors import ManyPosteriors
from numpyro_bridge.infer.run_many import _result_in_process, data_sets_of, run_many
from tests import targets
from tests.compilations import listed_compilations
from tests.infer.trained import TINY, assert_same_draws

X, Y = targets.regression_data()
YS = np.stack([Y, -Y, 0.5 * Y])


@pytest.fixture(scope="module")
def sampler():
    return nb.BridgeSampler(targets.regression, **TINY)


@pytest.fixture(scope="module")
def many(sampler) -> ManyPosteriors:
    return sampler.run_many(jax.random.key(0), {"y": YS}, X)


@pytest.fixture(scope="module")
def draws(many):
    return many.sample(jax.random.key(1), 500)


def test_each_data_set_gets_what_it_gets_alone(sampler, many, draws):
    run_key, sample_key = (jax.random.fold_in(jax.random.key(seed), 1) for seed in (0, 1))
    alone = sampler.run(run_key, X, y=YS[1])
    assert_same_draws(alone.sample(sample_key, 500), draws[1])
    assert_same_draws(many[1].sample(sample_key, 500), draws[1])


def test_evidences_are_those_of_the_closed_form(draws):
    for number, y in enumerate(YS):
        exact = targets.regression_posterior(X, y)[2]
        assert abs(draws.log_evidence[number] - exact) < 5 * draws.log_evidence_error[number]


def test_a_later_call_compiles_nothing(sampler, many):
    with listed_compilations() as compiled:
        sampler.run_many(jax.random.key(5), {"y": YS[:2] + 0.1}, X)
    assert compiled == []


def test_arrays_have_data_sets_in_front(draws):
    assert len(draws) == 3
    assert draws.sites["w"].shape == (3, 500, 2)
    assert draws.log_weight.shape == (3, 500)
    assert draws.resample(jax.random.key(2), 50)["slope"].shape == (3, 50)
    assert draws.ess.shape == draws.pareto_k.shape == draws.trusted.shape == (3,)
    np.testing.assert_array_equal(draws[1:].log_weight, draws.log_weight[1:])


def test_the_summary_has_a_line_for_each(draws, capsys):
    draws.print_summary()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2"]
    assert f"{draws.log_evidence[2]:.3f}" in lines[3]
    assert "<b>3 data sets.</b>" in draws._repr_html_()


def test_data_sets_of_a_list_may_differ_in_shape():
    sampler = nb.BridgeSampler(targets.regression, **TINY)
    sets = [{"x": X, "y": Y}, {"x": X[:4], "y": Y[:4]}]
    draws = sampler.run_many(jax.random.key(0), sets).sample(jax.random.key(1), 200)
    for number, data in enumerate(sets):
        exact = targets.regression_posterior(data["x"], data["y"])[2]
        assert abs(draws.log_evidence[number] - exact) < 5 * draws.log_evidence_error[number]


def test_a_data_set_that_fails_stops_no_other(sampler, draws):
    broken = np.where(np.arange(6) == 3, np.nan, Y)
    many = sampler.run_many(jax.random.key(0), {"y": np.stack([Y, broken, 0.5 * Y])}, X)
    assert list(many.errors) == [1]
    with pytest.warns(nb.ReliabilityWarning, match=r"1 of the 3 data sets .*numbers 1"):
        some = many.sample(jax.random.key(1), 500)
    np.testing.assert_array_equal(some.trusted, [draws.trusted[0], False, draws.trusted[2]])
    np.testing.assert_array_equal(np.isnan(some.log_evidence), [False, True, False])
    assert_same_draws(some[2], draws[2])
    with pytest.raises(ValueError, match="data sets \\[1\\] have no draws"):
        some.sites  # noqa: B018
    assert some.finished.sites["w"].shape == (2, 500, 2)
    with pytest.raises(ValueError, match="y"):
        many[1]


@pytest.mark.parametrize("num, failed", [(50, 3), (2, 2)])
def test_a_call_that_is_wrong_is_given_up_soon(sampler, num, failed):
    said = f"the first {failed} data sets all failed: ModelRefusedError"
    with pytest.raises(RuntimeError, match=said):
        sampler.run_many(jax.random.key(0), {"z": np.ones((num, 6))}, X)


WRONG = {
    "3.0": (3.0, "data_sets must be"),
    "array": (YS, "data_sets must be"),
    "empty list": ([], "data_sets is empty"),
    "empty dictionary": ({}, "as many rows"),
    "no rows": ({"y": 1.0}, "no rows"),
    "rows that differ": ({"y": YS, "z": YS[:2]}, "'y': 3, 'z': 2"),
    "zero rows": ({"y": YS[:0]}, "data_sets is empty"),
}


@pytest.mark.parametrize("given, said", WRONG.values(), ids=WRONG)
def test_data_sets_that_cannot_be_told_apart_are_refused(given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        data_sets_of(given, {})


def test_an_argument_is_given_once(sampler):
    with pytest.raises(ValueError, match=r"\['y'\] are given for each data set and for all"):
        sampler.run_many(jax.random.key(0), {"y": YS}, X, y=Y)


class Stub:
    """A sampler whose second run is hit by Ctrl-C, which it deals with by itself or not."""

    progress_bar = False
    checkpoint = None
    mesh = None

    def __init__(self, posterior, swallowed: bool):
        self.posterior, self.swallowed = posterior, swallowed

    def run(self, rng_key, number):
        try:
            if number == 1:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not self.swallowed:
                raise
        return self.posterior


@pytest.mark.parametrize("swallowed", [True, False])
def test_ctrl_c_returns_what_is_finished(posterior, swallowed):
    stub, sets = Stub(posterior, swallowed), [{"number": number} for number in range(4)]
    many = run_many(stub, jax.random.key(0), sets, (), {})
    assert many[0] is posterior
    assert list(many.errors) == [1, 2, 3]
    with pytest.raises(RuntimeError, match="Ctrl-C"):
        many[2]


def test_ctrl_c_in_the_first_run_is_raised(posterior):
    with pytest.raises(KeyboardInterrupt):
        run_many(Stub(posterior, True), jax.random.key(0), [{"number": 1}] * 2, (), {})


def test_each_data_set_has_a_checkpoint_of_its_own(tmp_path):
    settings = TINY | {"num_iterations": 20, "checkpoint": tmp_path / "c"}
    sampler = nb.BridgeSampler(targets.regression, **settings)
    sampler.run_many(jax.random.key(0), {"y": YS[:2]}, X)
    assert {path.name for path in tmp_path.iterdir()} == {"c.data0", "c.data1"}


def test_threads_and_processes_of_joblib_give_the_same(sampler, many):
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config("threading", n_jobs=2):
        again = sampler.run_many(jax.random.key(0), {"y": YS}, X)
    key = jax.random.key(3)
    for one, other in zip(many, again, strict=True):
        assert_same_draws(one.sample(key, 100), other.sample(key, 100))


def test_a_process_works_in_the_precision_of_its_parent(sampler, many):
    cloudpickle = pytest.importorskip("cloudpickle")
    task = (sampler.run, jax.random.fold_in(jax.random.key(0), 0), (X,), {"y": Y})
    with jax.enable_x64(False):  # as a process starts
        task = cloudpickle.loads(cloudpickle.dumps(task))
        sent = cloudpickle.dumps(_result_in_process(True, *task))
    result = cloudpickle.loads(sent)
    assert isinstance(result, nb.Posterior)
    key = jax.random.key(3)
    assert_same_draws(result.sample(key, 100), many[0].sample(key, 100))
