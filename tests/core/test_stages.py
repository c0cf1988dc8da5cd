"""The stages of a run are shown to whoever wants to see them, and to nobody else."""

import pytest

from numpyro_bridge._core.stages import stage, stages


@pytest.mark.parametrize("shown", [True, False])
def test_stages_are_shown_where_asked_for(capsys, monkeypatch, shown):
    monkeypatch.delenv("CI", raising=False)
    with stages(shown):
        stage("exploring")
        stage("charting", charts=3, ess=0.123456)
    text = capsys.readouterr().err
    assert ("exploring [" in text) == shown
    assert ("charting [" in text and "charts=3, ess=0.123" in text) == shown


def test_nothing_is_shown_by_a_machine_or_outside(capsys, monkeypatch):
    stage("outside")
    monkeypatch.setenv("CI", "true")
    with stages(True):
        stage("exploring")
    stage("after")
    assert capsys.readouterr().err == ""
