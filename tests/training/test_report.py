"""Reports: typed in Python, plain in files, and the same when they come back."""

import json
import math

import numpy as np
import pytest

from numpyro_bridge.training import Round, RunReport, Seconds, Stop, Training
from numpyro_bridge.training.metrics import TrajectoryMetrics

ROUNDS = (Round(0.25, -3.5, math.inf, 2.0), Round(0.5, -3.25, 0.4, 1.5, chart=1))
FULL = RunReport(
    process="DenoisingProcess",
    objective="diffusion_elbo",
    weighting="uniform",
    stopped=Stop.PLATEAU,
    num_iterations=300,
    num_skipped_updates=2,
    num_gradient_evaluations=1_000,
    seconds=Seconds(0.5, 1.5, 2.5, 3.5, 4.5, 5.5),
    num_temperatures=7,
    rounds=ROUNDS,
    num_simulations=200,
    num_left_out=3,
)


def training(num_iterations: int, *, skipped: int, stopped: Stop) -> Training:
    flags = (np.arange(num_iterations) < skipped).astype(float)
    zeros = np.zeros(num_iterations)
    metrics = TrajectoryMetrics(zeros, zeros, zeros, zeros, flags)
    return Training(None, metrics, stopped, training_time=2.0, compile_time=0.5)


def test_attributes_have_plain_values_under_their_names():
    assert FULL.attributes() == {
        "process": "DenoisingProcess",
        "objective": "diffusion_elbo",
        "weighting": "uniform",
        "stopped": "plateau",
        "num_iterations": 300,
        "num_skipped_updates": 2,
        "num_gradient_evaluations": 1_000,
        "standardise_time": 0.5,
        "particles_time": 1.5,
        "simulation_time": 2.5,
        "compile_time": 3.5,
        "training_time": 4.5,
        "sampling_time": 5.5,
        "num_temperatures": 7,
        "num_rounds": 2,
        "round_1_ess": 0.25,
        "round_1_log_evidence": -3.5,
        "round_1_pareto_k": math.inf,
        "round_1_seconds": 2.0,
        "round_1_chart": 0,
        "round_2_ess": 0.5,
        "round_2_log_evidence": -3.25,
        "round_2_pareto_k": 0.4,
        "round_2_seconds": 1.5,
        "round_2_chart": 1,
        "num_simulations": 200,
        "num_left_out": 3,
    }
    assert {type(value) for value in FULL.attributes().values()} == {str, int, float}


@pytest.mark.parametrize("report", [FULL, RunReport(), RunReport("CMCD", num_iterations=0)])
def test_a_report_is_read_back_from_its_attributes(report):
    assert RunReport.from_attributes(report.attributes()) == report
    assert RunReport.from_attributes(json.loads(json.dumps(report.attributes()))) == report


def test_unknown_attributes_of_a_file_are_ignored():
    numbers_of_numpy = {"num_iterations": np.int64(5), "training_time": np.float32(0.5)}
    read = RunReport.from_attributes({**numbers_of_numpy, "elbo": -1.0, "created_at": "today"})
    assert read == RunReport(num_iterations=5, seconds=Seconds(train=0.5))
    assert {type(value) for value in read.attributes().values()} == {int, float}


def test_unknown_numbers_of_a_report_are_absent():
    assert RunReport().attributes() == {}
    assert RunReport(objective="SVI").attributes() == {"objective": "SVI"}


def test_trainings_add_up():
    first = training(10, skipped=1, stopped=Stop.PLATEAU)
    second = training(20, skipped=2, stopped=Stop.BUDGET)
    report = RunReport("CMCD", seconds=Seconds(standardise=1.0)).after(first, second)
    assert report == RunReport(
        "CMCD",
        stopped=Stop.BUDGET,
        num_iterations=30,
        num_skipped_updates=3,
        seconds=Seconds(standardise=1.0, compile=1.0, train=4.0),
    )


def test_drawing_adds_to_what_was_spent_before():
    drawn = FULL.drawn(0.25, 500)
    assert drawn.num_gradient_evaluations == 1_500 and drawn.seconds.draw == 0.25
    assert drawn.seconds.train == FULL.seconds.train
    assert RunReport().drawn(0.25, 500).num_gradient_evaluations == 500
