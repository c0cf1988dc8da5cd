"""A posterior as the prior of the next analysis: real data in two parts, against all at once.

    python -m benchmarks.sequential --data FOLDER

The test scores of 434 children (posteriordb, `kidiq`), in random order. NUTS fits the first half;
a denoiser learns the draws, and as a NumPyro distribution it is the prior of the second half.
Means and standard deviations are compared with those of NUTS on all data, and the product of the
two evidences with the evidence of all data, which has a closed form. The table is written to
`sequential.md`.
"""

import json
import time
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import effective_sample_size

import numpyro_bridge as nb
from benchmarks import command_line, nuts, pages, posteriordb

TABLE = Path(__file__).with_suffix(".md")
PRIOR_SD, PRIOR_SCALE = 50.0, 10.0


def model(design, y=None):
    """A linear regression with weak proper priors."""
    wide = dist.Normal(0, PRIOR_SD).expand([design.shape[1]]).to_event(1)
    beta = numpyro.sample("beta", wide)
    sigma = numpyro.sample("sigma", dist.HalfCauchy(PRIOR_SCALE))
    numpyro.sample("y", dist.Normal(design @ beta, sigma), obs=y)


def next_model(prior, design, y=None):
    """The same regression, with the posterior of the first half as its prior."""
    sites = prior.sites(numpyro.sample("posterior", prior))
    for name in ("beta", "sigma"):
        numpyro.deterministic(name, sites[name])
    numpyro.sample("y", dist.Normal(design @ sites["beta"], sites["sigma"]), obs=y)


def load(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Covariates (school, the mother's IQ in units of 15, their product) and scores, shuffled."""
    case = json.loads((data / "posteriordb" / "kidiq-kidscore_interaction.json").read_text())
    school, iq, y = (np.asarray(case["data"][k], float) for k in ("mom_hs", "mom_iq", "kid_score"))
    iq = (iq - 100) / 15
    design = np.column_stack([np.ones(len(y)), school, iq, school * iq])
    order = np.random.default_rng(0).permutation(len(y))
    return design[order].astype(np.float32), y[order].astype(np.float32)


def draws_of_nuts(key: int, model, *args, num_samples: int = 500) -> dict:
    """Draws of four chains of NUTS by site, shape (chain, draw, ...)."""
    mcmc = nuts.four_chains(model, num_warmup=300, num_samples=num_samples)
    mcmc.run(jax.random.key(key), *args)
    return {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}


def learned(key: int, model, draws: dict, *args) -> tuple[nb.Posterior, nb.Draws]:
    """A posterior learned from draws of NUTS, and its own draws with weights."""
    given = {name: value.reshape(-1, *value.shape[2:]) for name, value in draws.items()}
    sampler = nb.DiffusionSampler(model, progress_bar=False)
    posterior = sampler.run(jax.random.key(key), *args, draws=given)
    return posterior, posterior.sample(jax.random.key(key + 1), num_samples=16_000)


def rows_of(joint: dict, split: dict) -> list[list[str]]:
    """Rows of the table: mean and standard deviation both ways, and z of the means' difference."""
    found = []
    for name in ("beta", "sigma"):
        a, b = (np.atleast_3d(fit[name]) for fit in (joint, split))
        for column in range(a.shape[2]):
            x, y = a[..., column], b[..., column]
            error = np.sqrt(
                np.var(x) / effective_sample_size(x) + np.var(y) / effective_sample_size(y)
            )
            label = f"{name}[{column}]" if a.shape[2] > 1 else name
            both = [f"{values.mean():.3f} ± {values.std():.3f}" for values in (x, y)]
            found.append([label, *both, f"{(y.mean() - x.mean()) / error:.1f}"])
    return found


def main() -> None:
    """Fit both ways and write the table."""
    parser = command_line.parser(__doc__)
    design, y = load(parser.parse_args().data)
    half = len(y) // 2
    first, second = (design[:half], y[:half]), (design[half:], y[half:])
    joint = draws_of_nuts(0, model, design, y)
    posterior, draws = learned(2, model, draws_of_nuts(1, model, *first), *first)
    prior = posterior.as_distribution()
    start = time.perf_counter()
    split = draws_of_nuts(4, next_model, prior, *second)
    seconds = time.perf_counter() - start
    given = {"posterior": split["posterior"]}
    _, last = learned(5, next_model, given, prior, *second)
    exact = posteriordb.regression_evidence(design, y, _log_prior, PRIOR_SD**2)
    total = draws.log_evidence + last.log_evidence
    error = float(np.hypot(draws.log_evidence_error, last.log_evidence_error))
    lines = [
        "# One posterior as the prior of the next analysis",
        "",
        "`python -m benchmarks.sequential --data FOLDER`. The scores of 434 children, half at a "
        "time: what a denoiser learned from 2,000 draws of the first half is the prior of the "
        "second half. Both fits are 2,000 draws of NUTS; z is the difference of the means over its "
        "Monte Carlo error.",
        "",
        *pages.table(
            ["", "all at once, mean ± sd", "in two parts, mean ± sd", "z"], rows_of(joint, split)
        ),
        "",
        f"Log evidence of all data in closed form {exact:.3f}; of the first half "
        f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f} and of the second given it "
        f"{last.log_evidence:.3f} ± {last.log_evidence_error:.3f}, together {total:.3f} ± "
        f"{error:.3f}. These errors are those of the weights alone; what remains of the difference "
        "is what the denoiser got wrong about the first half. ESS of the two sets of weights: "
        f"{draws.ess:.2f} and {last.ess:.2f}. NUTS on the second half, through the flow's "
        f"equation: {seconds:.0f} s.",
        "",
        pages.measured_on(),
    ]
    pages.write(TABLE, lines)


def _log_prior(sigma):
    return np.log(2 / (np.pi * PRIOR_SCALE)) - np.log1p((sigma / PRIOR_SCALE) ** 2)


if __name__ == "__main__":
    main()
