"""The study of calibration: what a row of its file keeps, and that its page counts every run."""

import numpy as np
import pytest

from benchmarks import calibrate, rows
from benchmarks.calibrate import Case, read_run
from numpyro_bridge.draws.ranking import RankedRun


@pytest.fixture
def found(tmp_path, monkeypatch) -> list[dict]:
    """Rows of twenty runs: one without draws, one that is not trusted, all others even."""
    runs = {number: RankedRun(ranks_of(5 * number), 0.9, 3_600.0) for number in range(20)}
    runs[3] = RankedRun(failure="ValueError: no start", seconds=2.0)
    runs[4] = runs[4]._replace(doubt="Use with care.", seconds=9.0)

    class Runs:
        run = staticmethod(runs.__getitem__)

    monkeypatch.setattr(calibrate, "runs_of", lambda name: Runs)
    cases = [Case("poisson", number) for number in range(20)]
    return rows.complete(tmp_path / "calibrate.csv", cases, calibrate.measure, shown=())


def ranks_of(rank: int) -> dict:
    return {"z": np.asarray([rank, 95 - rank]), "log joint": np.asarray(rank)}


def test_a_run_comes_back_from_its_row(found):
    run = read_run(found[5])
    assert run.ranks is not None and [*run.ranks] == ["z", "log joint"]
    np.testing.assert_array_equal(run.ranks["z"], [25, 70])
    assert (run.ess, run.num_effective, run.failure) == (0.9, 3_600.0, "")
    assert read_run(found[3]).ranks is None and read_run(found[3]).seconds == 2.0


def test_the_page_counts_every_run(found, tmp_path):
    calibrate.write_page(tmp_path / "calibrate.md", found)
    text = (tmp_path / "calibrate.md").read_text()
    assert "here are 20 of poisson" in text
    assert "| poisson | 20 | 1 | 1 |" in text
    assert "1 of 20 runs gave no draws" in text and "ValueError: no start" in text
