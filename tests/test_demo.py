"""`python -m numpyro_bridge` with little training: it runs, and writes the files that it names."""

import contextlib
import io
import warnings
from pathlib import Path

import arviz as az
import jax
import numpy as np
import pytest
from scipy.stats import binom, gamma, norm

from numpyro_bridge import __main__ as demo
from numpyro_bridge.draws.verdict import ReliabilityWarning
from numpyro_bridge.target import target_from_model

FILES = {f"{name}.png" for name in ("marginals", "forest", "pairs", "training", "weights")}
FILES |= {"bridge.nc", "nuts.nc"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder and the print of a run on the smaller of the two models."""
    folder, printed = tmp_path_factory.mktemp("demo") / "output", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # So little training may well end in a verdict that warns.
        warnings.simplefilter("ignore", ReliabilityWarning)
        patch.setattr(demo, "DEMOS", {"eight_schools": demo.DEMOS["eight_schools"]})
        with contextlib.redirect_stdout(printed):
            demo.main(["--quick", "--seed", "1", "--output", str(folder)])
    return folder, printed.getvalue()


@pytest.mark.slow
def test_writes_what_it_names_and_names_what_it_writes(run):
    folder, printed = run
    _, _, listed = printed.partition("Wrote:\n")
    named = {Path(line.strip()) for line in listed.splitlines() if line.strip()}
    assert named == {path for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in named} == FILES


@pytest.mark.slow
def test_prints_tables_and_verdict(run):
    _, printed = run
    for words in ("Eight schools", "theta[H]", "smallest bulk ESS", "log evidence", "The means"):
        assert words in printed


@pytest.mark.slow
def test_files_open_in_arviz_and_agree(run):
    folder, _ = run
    bridge, nuts = (
        az.from_netcdf(folder / "eight_schools" / f"{n}.nc") for n in ("bridge", "nuts")
    )
    for name in ("mu", "tau", "theta"):
        means = [side["posterior"][name].mean(("chain", "draw")).values for side in (bridge, nuts)]
        errors = [az.mcse(side, method="mean")[name].values for side in (bridge, nuts)]
        assert np.all(np.abs(means[0] - means[1]) < 4.5 * np.hypot(*errors))
    assert list(bridge["posterior"]["school"].values) == list("ABCDEFGH")
    # A two-dimensional quadrature gives -31.33; 0.2 is ten times the error at these settings.
    assert abs(bridge["posterior"].attrs["log_evidence"] + 31.33) < 0.2


def test_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main(["--help"])
    assert stop.value.code == 0
    assert "--output" in capsys.readouterr().out


def test_seeds_is_the_published_model():
    data = {name: np.asarray(x, float) for name, x in demo.DEMOS["seeds"].data.items()}
    assert data["num_seeds"].sum() == 831 and data["num_germinated"].sum() == 424
    target = target_from_model(jax.random.key(0), demo.seeds, **data)
    (position,) = target.initial_positions(jax.random.key(1), 1)
    sites = {name: np.asarray(x) for name, x in target.constrain(position).items()}
    a, tau, b = [sites[name] for name in ("a_0", "a_1", "a_2", "a_12")], sites["tau"], sites["b"]
    x1, x2 = data["is_other_seed"], data["is_other_root"]
    logits = a[0] + a[1] * x1 + a[2] * x2 + a[3] * x1 * x2 + b
    probability = 1 / (1 + np.exp(-logits))
    expected = (
        binom.logpmf(data["num_germinated"], data["num_seeds"], probability).sum()
        + norm.logpdf(b, 0, tau**-0.5).sum()
        + norm.logpdf(a, 0, 10).sum()
        + gamma.logpdf(tau, 0.01, scale=100)
        + np.log(tau)  # tau is exp of its unconstrained value
    )
    np.testing.assert_allclose(target.log_density(position), expected, rtol=1e-6)


def test_eight_schools_has_the_published_data():
    data = demo.DEMOS["eight_schools"].data
    assert data["effect"].tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    assert data["effect_error"].tolist() == [15, 10, 16, 11, 9, 11, 10, 18]
