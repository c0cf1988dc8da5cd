"""Several processes do one run together, with the numbers of one process."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.storage import load_header
from tests.core import one_of_many

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def processes(case: str, num: int, folder: Path) -> list[subprocess.CompletedProcess]:
    """Start all processes of a case, and wait for their ends."""
    command = [sys.executable, "-m", "tests.core.one_of_many", case]
    port, env = free_port(), {**os.environ, "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [*command, str(number), str(num), str(port), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env,
        )
        for number in range(num)
    ]
    try:
        ended = [(one, one.communicate(timeout=180)) for one in started]
    finally:
        for one in started:
            one.kill()
    return [subprocess.CompletedProcess(one.args, one.returncode, *said) for one, said in ended]


def results(case: str, num: int, folder: Path) -> list[dict[str, np.ndarray]]:
    for one in processes(case, num, folder):
        assert one.returncode == 0, one.stderr
    return [dict(np.load(folder / f"{number}.npz")) for number in range(num)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return one_of_many.found(None, tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
def test_several_processes_have_the_numbers_of_one(alone, tmp_path):
    """Three processes, which have two devices each."""
    num = 3
    assert set(alone["chart"]) == {0, 1}
    *others, last = results("run", num, tmp_path)
    assert "exclude" in str(last["refused"])
    for one in others:
        failed = f"RuntimeError: process {num - 1} failed while checking what to draw: ValueError"
        assert str(one["refused"]).startswith(failed)
    for one in (*others, last):
        del one["refused"]
        assert one.pop("num_processes") == num
        for name, value in one.items():
            np.testing.assert_allclose(value, alone[name], rtol=1e-6, atol=1e-6, err_msg=name)
    # The first process writes files, and no other.
    assert [path.name for path in tmp_path.glob("posterior*")] == ["posterior0"]
    saved = nb.load(tmp_path / "posterior0", one_of_many.either_side, 5.0)
    assert saved.report.num_processes == num


@pytest.mark.slow
def test_a_process_that_is_lost_is_named_and_the_checkpoint_goes_on(tmp_path):
    first, second = processes("killed", 2, tmp_path)
    assert second.returncode == -9
    assert first.returncode not in (0, None)
    assert "RuntimeError: process 1 (number" in first.stderr
    assert "was lost" in first.stderr
    path = tmp_path / "checkpoint"
    assert 0 < load_header(path)["num_done"] < one_of_many.NUM_ITERATIONS
    # On another number of processes, it goes on to the numbers of an undisturbed training.
    resumed, whole = one_of_many.trained(None, path), one_of_many.trained(None, None)
    np.testing.assert_allclose(resumed["elbo"], whole["elbo"], rtol=1e-6)


@pytest.mark.slow
def test_a_process_that_fails_alone_leaves_no_other_waiting(tmp_path):
    """JAX ends the others when one has waited at its end for long enough."""
    first, second = processes("failed", 2, tmp_path)
    assert "MemoryError: no memory is left here" in second.stderr
    assert first.returncode not in (0, None)
    assert 0 < load_header(tmp_path / "checkpoint")["num_done"] < one_of_many.NUM_ITERATIONS


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """What two processes say of a training that Ctrl-C ended, and of calls after it."""
    return results("interrupted", 2, tmp_path_factory.mktemp("interrupted"))


@pytest.mark.slow
def test_ctrl_c_in_one_process_ends_the_training_in_all(interrupted):
    first, second = interrupted
    assert first["stopped"] == second["stopped"] == "interrupted"
    assert 0 < len(first["elbo"]) < one_of_many.NUM_ITERATIONS
    np.testing.assert_array_equal(first["elbo"], second["elbo"])


@pytest.mark.slow
def test_processes_with_different_data_refuse_to_work_together(interrupted):
    for said in interrupted:
        assert "ValueError: process 1 has another model or other data" in str(said["other data"])


@pytest.mark.slow
def test_what_several_processes_cannot_do_is_refused_by_all(interrupted):
    first, second = interrupted
    for said in interrupted:
        assert "the devices are those of the processes" in str(said["devices of others"])
        assert "give each process its own data sets" in str(said["many data sets"])
        assert "give each process all rows" in str(said["divided rows"])
        assert "process 1 has another rng_key (" in str(said["other keys"])
        settings = str(said["other settings"])
        assert "another num_iterations (51 and not 50)" in settings
        assert "another num_trajectories (16 and not 8)" in settings
    elsewhere = "a model that fails elsewhere"
    assert str(first[elsewhere]).startswith(
        "RuntimeError: process 1 failed while reading the model"
    )
    assert "the data are not here" in str(first[elsewhere])
    assert str(second[elsewhere]) == "OSError: the data are not here"


REMOTE_SHELL = """#!/bin/sh
shift  # the host, which is always this one
exec sh -c "$*"
"""

SRUN = """#!/usr/bin/env bash
shift  # --kill-on-bad-exit=1
export SLURM_JOB_ID={job} SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2
SLURM_PROCID=1 SLURM_LOCALID=0 "$@" &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" && wait $!
"""

SAYS_WHO_IT_IS = """#!{python}
import sys, jax
jax.distributed.initialize()
who = f"{{jax.process_index()}} of {{jax.process_count()}}"
sys.stdout.write(" ".join(sys.argv[1:]) + f" by {{who}}\\n")
"""


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def launched(script: str, *options: str, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "JAX_PLATFORMS": "cpu", **env}
    command = [ROOT / "examples" / script, *options]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


@pytest.mark.slow
def test_the_example_runs_on_a_list_of_hosts(tmp_path):
    folder = tmp_path / "two words"
    options = ["--num-iterations=50", "--num-steps=2", "--num-samples=100", f"--folder={folder}"]
    shell = executable(tmp_path / "rsh", REMOTE_SHELL)
    env = {"PYTHON": sys.executable, "RSH": shell, "PORT": str(free_port())}
    run = launched("hosts.sh", "localhost", "localhost", "--", *options, **env)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("devices of 2 processes") == 1
    log_evidence = float(re.search(r"log evidence +(-[0-9.]+)", run.stdout)[1])
    assert log_evidence == pytest.approx(-4.286, abs=0.05)  # by a sum over a grid
    names = {path.name for path in folder.iterdir()}
    assert names == {"checkpoint", "checkpoint.1", "car.bridge"}


def test_hosts_have_to_be_named():
    run = launched("hosts.sh")
    assert run.returncode == 2 and "usage" in run.stderr


@pytest.mark.slow
def test_a_slurm_job_starts_one_process_for_each_task(tmp_path):
    executable(tmp_path / "srun", SRUN.format(job=os.getpid()))
    python = executable(tmp_path / "python", SAYS_WHO_IT_IS.format(python=sys.executable))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(ROOT)}
    run = launched("slurm.sh", "--folder=here", PYTHON=python, **env)
    assert run.returncode == 0, run.stderr
    program = "examples/several_machines.py --folder=here"
    assert sorted(run.stdout.splitlines()) == [f"{program} by {n} of 2" for n in (0, 1)]
