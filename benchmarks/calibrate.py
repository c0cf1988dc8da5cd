"""Simulation-based calibration of the defaults: five models, a hundred simulated data sets each.

    python -m benchmarks.calibrate [--models NAME ...] [--numbers 100]

Each model runs in a process of its own. Rows are kept in `calibrate.csv`, one for each simulation;
those that are there already are not run again. The table is written to `calibrate.md`.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb
from benchmarks import command_line, pages, rows
from benchmarks.targets import eight_schools
from numpyro_bridge.compare.simulated_runs import Ranking, SimulatedRuns, simulated_runs
from numpyro_bridge.draws.calibration import Calibration, calibration_of
from numpyro_bridge.draws.ranking import RankedRun
from numpyro_bridge.target.data_arguments import call_without_data

HERE = Path(__file__).parent
NUM = 100
"""Simulations of each model; a larger number would make other ones."""
RANKING = Ranking()
"""4,000 draws given each data set, corrected by independence Metropolis, and 99 of them ranked."""


class Case(NamedTuple):
    """One run on one simulated data set."""

    model: str
    number: int


# --- the models -----------------------------------------------------------------------------------


def normal(y=None):
    """A mean with a normal prior, whose posterior is normal."""
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("n", 5):
        numpyro.sample("y", dist.Normal(mu, 2), obs=y)


def logistic(x, y=None):
    """A regression of 40 yes or no answers on two covariates."""
    intercept = numpyro.sample("intercept", dist.Normal(0, 1))
    slope = numpyro.sample("slope", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=intercept + x @ slope), obs=y)


def two_modes(y=None):
    """Two parts whose labels can be exchanged, so that every mode has a mirror image."""
    mean = numpyro.sample("mean", dist.Normal(0, 3).expand([2]).to_event(1))
    parts = dist.Normal(mean, 1)
    with numpyro.plate("n", 20):
        halves = dist.Categorical(probs=jnp.asarray([0.5, 0.5]))
        numpyro.sample("y", dist.MixtureSameFamily(halves, parts), obs=y)


def poisson(y=None):
    """Counts in six groups, whose log rates have a common distribution; non-centred."""
    mean = numpyro.sample("mean", dist.Normal(1, 1))
    scale = numpyro.sample("scale", dist.HalfNormal(0.5))
    with numpyro.plate("group", 6):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("y", dist.Poisson(jnp.exp(mean + scale * z)), obs=y)


def covariates() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 2))


ERRORS = np.asarray([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
"""Standard errors of the eight schools."""

MODELS: dict[str, tuple[Callable[..., Any], tuple]] = {
    "normal": (normal, ()),
    "logistic": (logistic, (covariates(),)),
    "poisson": (poisson, ()),
    "two_modes": (two_modes, ()),
    "eight_schools": (eight_schools, (ERRORS,)),
}


# --- one run --------------------------------------------------------------------------------------


@functools.cache
def runs_of(name: str) -> SimulatedRuns:
    """The simulations of a model, and the sampler with its defaults."""
    model, args = MODELS[name]
    sampler = nb.BridgeSampler(model, progress_bar=False)
    call = call_without_data(model, args, {})
    return simulated_runs(jax.random.key(0), sampler, call, NUM, RANKING)


def measure(case: Case) -> dict:
    """Run the defaults on one data set, and rank the truth; a failure has a row too."""
    run = runs_of(case.model).run(case.number)
    ranks = {} if run.ranks is None else {name: x.tolist() for name, x in run.ranks.items()}
    return {
        **case._asdict(),
        "ranks": json.dumps(ranks),
        "ess": run.ess,
        "num_effective": run.num_effective,
        "doubt": run.doubt,
        "failure": run.failure,
        "seconds": run.seconds,
        **pages.commit_and_machine(),
    }


def read_run(row: dict) -> RankedRun:
    """The run that a row of the file was written for."""
    ranks = {name: np.asarray(x) for name, x in json.loads(row["ranks"]).items()}
    return RankedRun(
        ranks=ranks or None,
        ess=float(row["ess"]),
        num_effective=float(row["num_effective"]),
        doubt=row["doubt"],
        failure=row["failure"],
        seconds=float(row["seconds"]),
    )


# --- the page -------------------------------------------------------------------------------------

COLUMNS = (
    "model",
    "data sets",
    "not trusted",
    "failed",
    "p, all",
    "smallest p of a parameter",
    "p, log joint",
    "p, trusted runs",
    "ESS",
    "first run",
    "median run",
    "mean run",
)


def calibration(found: list[dict]) -> Calibration:
    """The calibration of one model, from its rows."""
    runs = list(map(read_run, found))
    return calibration_of(runs, RANKING.num_draws, RANKING.correction)


def table_row(name: str, found: list[dict]) -> list[str]:
    """One line of the table."""
    one = calibration(found)
    seconds = rows.column(found, "seconds")
    trusted = one.of_trusted() if one.num_doubted < len(one.ess) else None
    return [
        name,
        str(one.num_simulations),
        str(one.num_doubted),
        str(len(one.failures)),
        f"{one.p_value:.2g}",
        f"{min(p for label, p in one.p_values.items() if label != 'log joint'):.2g}",
        f"{one.p_values['log joint']:.2g}",
        "" if trusted is None else f"{trusted.p_value:.2g}",
        f"{np.median(one.ess):.2f}",
        f"{seconds[0]:.0f}",
        f"{np.median(seconds):.1f}",
        f"{np.mean(seconds):.1f}",
    ]


def write_page(path: Path, found: list[dict]) -> None:
    """Write the table and the verdicts, and print them."""
    by_model = {name: rows.select(found, model=name) for name in MODELS}
    by_model = {name: of_model for name, of_model in by_model.items() if of_model}
    numbers = ", ".join(f"{len(of_model)} of {name}" for name, of_model in by_model.items())
    lines = [
        "# Calibration of the defaults on simulated data",
        "",
        "`python -m benchmarks.calibrate`: parameters from the prior and data from the model, "
        f"`BridgeSampler` with its defaults on each data set, {RANKING.num_samples:,} draws "
        f"corrected by independence Metropolis, and the truth ranked among {RANKING.num_draws} of "
        f"them. {NUM} data sets of each model are meant to be run; here are {numbers}. All runs "
        "with draws are ranked, trusted or not. *p, all* is the smallest p-value of a parameter or "
        "of the log joint, times their number; below 0.01 a sampler counts as not calibrated. "
        "Seconds are those of a run with its draws on one core that other work may share; the "
        "first run compiles.",
        "",
        pages.measured_on(found),
        "",
        *pages.table(COLUMNS, [table_row(*pair) for pair in by_model.items()]),
        "",
    ]
    for name, of_model in by_model.items():
        lines += [f"- **{name}**: {calibration(of_model).verdict.text}"]
    pages.write(path, lines)


# --- the command line -----------------------------------------------------------------------------


def main() -> None:
    """Run what is missing, each model in a process of its own, then write the table."""
    parser = command_line.parser(__doc__, data=False)
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    parser.add_argument("--numbers", type=int, default=NUM, help="how many of the simulations")
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    path = options.output / "calibrate.csv"
    if len(options.models) > 1:
        for name in options.models:
            command = [sys.executable, "-m", "benchmarks.calibrate", "--models", name]
            command += ["--numbers", str(options.numbers), "--output", str(options.output)]
            subprocess.run(command, check=True)
    else:
        (name,) = options.models
        cases = [Case(name, number) for number in range(min(options.numbers, NUM))]
        rows.complete(path, cases, measure, shown=("ess", "seconds"))
    write_page(options.output / "calibrate.md", rows.read(path))


if __name__ == "__main__":
    main()
