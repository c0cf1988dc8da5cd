"""Which errors of a sampler how many simulations find, on a normal posterior of one parameter.

    python -m benchmarks.calibration_power

Draws are off by known amounts, in standard deviations of the posterior. A sampler is found out if
the p-value of its parameter and of the log joint together is below 0.01. The table is written to
`calibration_power.md`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import command_line, pages
from numpyro_bridge.draws.calibration import SMALL, Calibration
from numpyro_bridge.draws.ranking import LOG_JOINT

HERE = Path(__file__).parent
NUM_DRAWS = 99
NUM_SIMULATIONS = (100, 300)


class Error(NamedTuple):
    """How draws differ from those of the posterior."""

    words: str
    scale: float = 1.0
    shift: float = 0.0


ERRORS = (
    Error("none"),
    Error("mean off by 0.3 sd", shift=0.3),
    Error("mean off by 0.5 sd", shift=0.5),
    Error("sd too small by a fifth", scale=0.8),
    Error("sd too large by a quarter", scale=1.25),
)


def calibration(rng: np.random.Generator, num_simulations: int, error: Error) -> Calibration:
    """Ranks of theta ~ N(0, 1) given y ~ N(theta, 1), among draws with this error."""
    theta = rng.normal(size=(num_simulations, 1))
    y = theta + rng.normal(size=(num_simulations, 1))
    noise = error.shift + error.scale * rng.normal(size=(num_simulations, NUM_DRAWS))
    draws = y / 2 + np.sqrt(0.5) * noise

    def log_joint(theta):
        return -0.5 * theta**2 - 0.5 * (y - theta) ** 2

    ranks = {
        "theta": np.sum(draws < theta, axis=1),
        LOG_JOINT: np.sum(log_joint(draws) < log_joint(theta), axis=1),
    }
    return Calibration(ranks, NUM_DRAWS, np.ones(num_simulations), None)


def power(num_simulations: int, error: Error, repetitions: int) -> float:
    """The share of repetitions in which the sampler is found out."""
    rng = np.random.default_rng(0)
    found = [calibration(rng, num_simulations, error).p_value < SMALL for _ in range(repetitions)]
    return float(np.mean(found))


def main() -> None:
    """Repeat, print and write the table."""
    parser = command_line.parser(__doc__, data=False)
    parser.add_argument("--repetitions", type=int, default=200)
    command_line.add_output(parser, HERE)
    options = parser.parse_args()
    shares = {
        error.words: [power(num, error, options.repetitions) for num in NUM_SIMULATIONS]
        for error in ERRORS
    }
    table = [[words, *(f"{share:.1%}" for share in row)] for words, row in shares.items()]
    lines = [
        "# Errors that a calibration finds",
        "",
        f"`python -m benchmarks.calibration_power`: {options.repetitions} repetitions each, ranks "
        f"among {NUM_DRAWS} draws of the parameter and of the log joint. The first row should be "
        "1 % or less.",
        "",
        *pages.table(["error", *(f"{num} simulations" for num in NUM_SIMULATIONS)], table),
    ]
    pages.write(options.output / "calibration_power.md", lines)


if __name__ == "__main__":
    main()
