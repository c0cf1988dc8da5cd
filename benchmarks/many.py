"""Many data sets beside one: `BridgeSampler.run_many` on variants of the eight schools.

    python -m benchmarks.many

The first data set is that of Rubin (1981). In the others every school has noise added, of half its
standard error. The process has compiled nothing before, and seconds contain 4,000 draws of each
posterior.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

import numpyro_bridge as nb
from benchmarks import command_line, pages
from benchmarks.calibrate import ERRORS
from benchmarks.targets import eight_schools, eight_schools_evidence

PAGE = Path(__file__).with_suffix(".md")
EFFECTS = np.asarray([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])


def main() -> None:
    """Measure and write the page."""
    parser = command_line.parser(__doc__, data=False)
    parser.add_argument("--num", type=int, default=100, help="how many data sets")
    num = parser.parse_args().num
    noise = np.random.default_rng(0).normal(size=(num, 8)) * ERRORS / 2
    noise[0] = 0
    seconds, draws = measure(EFFECTS + noise)
    exact = np.asarray([eight_schools_evidence(ERRORS, y) for y in EFFECTS + noise])
    pages.write(PAGE, page(seconds, draws, exact))


def measure(effects: np.ndarray) -> tuple[list[float], nb.draws.ManyDraws]:
    """Seconds of the first data set alone and of all, and the draws of all."""
    sampler = nb.BridgeSampler(eight_schools, progress_bar=False)
    run_key, draw_key = jax.random.split(jax.random.key(0))
    seconds = []
    draws = None
    for num in (1, len(effects)):
        start = time.perf_counter()
        many = sampler.run_many(run_key, {"y": effects[:num]}, ERRORS)
        draws = many.sample(draw_key)
        seconds.append(time.perf_counter() - start)
    assert draws is not None
    return seconds, draws


def page(seconds: list[float], draws: nb.draws.ManyDraws, exact: np.ndarray) -> Iterator[str]:
    """The lines of the page."""
    first, rest = seconds
    num = len(draws)
    error = draws.log_evidence - exact
    yield "# Many data sets"
    yield ""
    yield (
        f"`BridgeSampler.run_many` on {num} variants of the eight schools, 4,000 draws from each, "
        "in one process; `python -m benchmarks.many` regenerates this page."
    )
    yield ""
    rows = [
        ("seconds of the first, with compiling", f"{first:.1f}"),
        (f"seconds of all {num} afterwards", f"{rest:.1f}"),
        (f"first and all {num}, over the first", f"{(first + rest) / first:.1f}"),
        ("seconds of one, once all is compiled", f"{rest / num:.2f}"),
        ("trusted", f"{int(draws.trusted.sum())} of {num}"),
        ("smallest ESS", f"{draws.ess.min():.2f}"),
        ("largest error of a log evidence, by quadrature", f"{np.abs(error).max():.4f}"),
        (
            "root mean square of these errors over those that are stated",
            f"{np.sqrt(np.mean((error / draws.log_evidence_error) ** 2)):.2f}",
        ),
    ]
    yield from pages.table(["", ""], rows)
    yield ""
    yield pages.measured_on()


if __name__ == "__main__":
    main()
