"""One posterior with two modes by four methods, as the table of the front page.

    python -m benchmarks.four_ways

The model is the transmitter of `examples/two_sides.py`. Each method runs in a process of its own,
one after the other, with nothing compiled before. Seconds are processor time, summed over cores.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import pages

ROOT = Path(__file__).parent.parent
PAGE = Path(__file__).with_suffix(".md")
NUM_SAMPLES = 4_000
NUM_SVI_STEPS = 10_000
NUM_LIVE, NUM_DELETED, NUM_INNER_STEPS = 1_000, 100, 10
"""Of nested sampling; ten slices in two dimensions are more than its authors ask for."""

LEFT = -3.0
"""Nested sampling ends where the live points hold less than exp(-3) of the evidence."""


class Answer(NamedTuple):
    """What one method says of the posterior."""

    north: float
    """The share of the posterior that lies to the north of the line."""
    north_error: float | None = None
    log_evidence: float | None = None
    log_evidence_error: float | None = None
    bound: float | None = None
    """A lower bound on the log evidence."""
    worth: float | None = None
    """How many independent draws it has, as the method itself counts them."""
    word: str = ""
    """What it says of itself."""


def example() -> Any:
    """The module of the example, which is no part of the package."""
    path = ROOT / "examples" / "two_sides.py"
    spec = importlib.util.spec_from_file_location("two_sides", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_bridge() -> Answer:
    """The defaults of this package."""
    two_sides = example()
    draws = two_sides.run_bridge()
    chains = np.zeros((1, 1, 2))
    found = two_sides.side(chains, draws)
    return Answer(
        north=found.by_charts,
        north_error=found.error,
        log_evidence=draws.log_evidence,
        log_evidence_error=draws.log_evidence_error,
        bound=draws.elbo,
        worth=draws.ess * draws.num_samples,
        word="trustworthy" if draws.verdict.trustworthy else "use with care",
    )


def by_nuts() -> Answer:
    """NumPyro's NUTS, four vectorised chains of 1,000 draws."""
    from numpyro.diagnostics import effective_sample_size, gelman_rubin

    chains = example().run_nuts()
    north = np.mean(chains[..., 1] > 0)
    r_hat = float(np.max(gelman_rubin(chains)))
    worth = float(np.min(effective_sample_size(chains)))
    return Answer(north=float(north), worth=worth, word=f"r-hat {r_hat:.1f}")


def by_svi() -> Answer:
    """A normal guide with a dense covariance, by NumPyro's SVI."""
    import jax
    import numpyro
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoMultivariateNormal

    two_sides = example()
    args, kwargs = (two_sides.RECEIVERS,), {"measured": two_sides.MEASURED}
    guide = AutoMultivariateNormal(two_sides.transmitter)
    svi = SVI(two_sides.transmitter, guide, numpyro.optim.Adam(0.01), Trace_ELBO(16))
    result = svi.run(jax.random.key(0), NUM_SVI_STEPS, *args, **kwargs, progress_bar=False)
    draws = guide.sample_posterior(jax.random.key(1), result.params, sample_shape=(NUM_SAMPLES,))
    bound = -float(np.mean(np.asarray(result.losses)[-500:]))
    return Answer(north=float(np.mean(draws["place"][:, 1] > 0)), bound=bound, word="nothing")


def by_nested_sampling() -> Answer:
    """BlackJAX's nested slice sampling of the same density."""
    import blackjax
    import jax
    from blackjax.ns.utils import ess, finalise, log_weights, sample

    import numpyro_bridge as nb

    two_sides = example()
    target = nb.target_from_model(
        jax.random.key(0), two_sides.transmitter, two_sides.RECEIVERS, measured=two_sides.MEASURED
    )
    sampler: Any = blackjax.nss(
        target.log_prior,
        target.log_likelihood,
        num_inner_steps=NUM_INNER_STEPS,
        num_delete=NUM_DELETED,
    )
    prior = target.prior_positions(jax.random.key(1), NUM_LIVE)
    state, dead = sampler.init(prior), []
    step, key = jax.jit(sampler.step), jax.random.key(2)
    while state.integrator.logZ_live - state.integrator.logZ > LEFT:
        key, step_key = jax.random.split(key)
        state, info = step(step_key, state)
        dead.append(info)
    ended = finalise(state, dead)
    evidences = jax.nn.logsumexp(log_weights(jax.random.key(3), ended), axis=0)
    points: Any = sample(jax.random.key(4), ended, NUM_SAMPLES)
    place = np.asarray(points.position)
    return Answer(
        north=float(np.mean(place[:, 1] > 0)),
        log_evidence=float(np.mean(evidences)),
        log_evidence_error=float(np.std(evidences)),
        worth=float(ess(jax.random.key(5), ended)),
        word="nothing",
    )


WAYS: dict[str, Callable[[], Answer]] = {
    "numpyro-bridge": by_bridge,
    "NUTS": by_nuts,
    "SVI": by_svi,
    "nested sampling": by_nested_sampling,
}


def measured(way: str) -> dict[str, Any]:
    """Run one method in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.four_ways", "--way", way]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def exact() -> tuple[float, float]:
    """The share of the north, and the log evidence, by a sum over a grid."""
    import scipy.stats

    two_sides = example()
    axis = np.linspace(-16, 16, 3_201)
    points = np.stack(np.meshgrid(axis, axis), axis=-1)
    log_density = scipy.stats.norm.logpdf(points, two_sides.PRIOR_MEAN, two_sides.PRIOR_SCALE)
    log_density = log_density.sum(axis=-1)
    for receiver, measured in zip(two_sides.RECEIVERS, two_sides.MEASURED, strict=True):
        distance = np.linalg.norm(points - receiver, axis=-1)
        log_density += scipy.stats.norm.logpdf(measured, distance, two_sides.NOISE)
    mass = np.exp(log_density) * (axis[1] - axis[0]) ** 2
    return float(mass[points[..., 1] > 0].sum() / mass.sum()), float(np.log(mass.sum()))


def lines(answers: dict[str, dict[str, Any]]) -> list[str]:
    """The page."""
    share, evidence = exact()

    def row(name: str, cell: Callable[[dict[str, Any]], str]) -> list[str]:
        return [name, *(cell(answer) for answer in answers.values())]

    def number(answer: dict[str, Any], name: str, digits: int) -> str:
        value, error = answer[name], answer.get(f"{name}_error")
        if value is None:
            return "none"
        return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")

    return [
        "# The same posterior four ways",
        "",
        "The transmitter of `examples/two_sides.py`, in two dimensions with two modes; "
        "`python -m benchmarks.four_ways` regenerates this page. Each method runs in a process of "
        "its own, with nothing compiled before. NUTS has four vectorised chains of 1,000 draws "
        f"after 1,000, SVI a normal guide and {NUM_SVI_STEPS:,} steps of 16 particles, and nested "
        f"sampling (BlackJAX's `nss`) {NUM_LIVE:,} live points. By a sum over a grid the "
        f"probability of the north is {share:.4f} and the log evidence {evidence:.3f}. Seconds are "
        "processor time, summed over cores, compilation included.",
        "",
        *pages.table(
            ["", *answers],
            [
                row("log evidence", lambda a: number(a, "log_evidence", 3)),
                row("lower bound on it", lambda a: number(a, "bound", 3)),
                row("probability of the north", lambda a: number(a, "north", 4)),
                row("independent draws, by its own count", lambda a: number(a, "worth", 0)),
                row("what it says of itself", lambda a: a["word"]),
                row("processor seconds", lambda a: f"{a['seconds']:.0f}"),
            ],
        ),
        "",
        pages.measured_on(),
    ]


def main() -> None:
    """Run all four, write the page and print it; or run one, and print what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=list(WAYS), help="only this one, as JSON")
    way = parser.parse_args().way
    if way is None:
        pages.write(PAGE, lines({way: measured(way) for way in WAYS}))
        return
    answer = WAYS[way]()
    print(json.dumps({**answer._asdict(), "seconds": time.process_time()}))


if __name__ == "__main__":
    main()
