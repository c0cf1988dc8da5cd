"""One row of the atlas benchmark: the defaults or NUTS on one target, against what is known."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.diagnostics import summary

import numpyro_bridge as nb
from benchmarks import nuts, pages
from benchmarks.atlas_densities import Modes
from benchmarks.atlas_targets import AtlasTarget, Limits, load

NUM_DRAWS = 4_000
FOUND = 0.1
"""A mode counts as found if the draws give it at least this share of its mass."""


class Case(NamedTuple):
    """One run on one target."""

    target: str
    key: int


class Folders(NamedTuple):
    """Where the data and the cases are."""

    data: Path
    cases: Path | None = None


# --- one row of the bridge ------------------------------------------------------------------------


class Bridge(NamedTuple):
    """What the defaults gave; None where there was no result, or nothing to compare with."""

    dim: int | None = None
    log_evidence: float | None = None
    log_evidence_error: float | None = None
    reference: float | None = None
    error: float | None = None
    total_variation: float | None = None
    num_modes: int | None = None
    num_found: int | None = None
    ess: float | None = None
    pareto_k: float | None = None
    elbo: float | None = None
    trustworthy: bool | None = None
    num_charts: int | None = None
    gradient_evaluations: int | None = None
    seconds: float | None = None


def measure_bridge(case: Case, folders: Folders) -> dict:
    """Run the defaults, from the model to weighted draws."""
    known = load(case.target, *folders)
    start = time.perf_counter()
    posterior = nb.BridgeSampler(known.subject, progress_bar=False).run(
        jax.random.key(case.key), *known.args, **known.kwargs
    )
    draws = posterior.sample(jax.random.key(1_000 + case.key), NUM_DRAWS)
    log_evidence = draws.log_evidence  # waits for the draws
    seconds = time.perf_counter() - start
    found = Bridge(
        dim=posterior.target.dim,
        log_evidence=log_evidence,
        log_evidence_error=draws.log_evidence_error,
        reference=known.log_evidence,
        error=None if known.log_evidence is None else log_evidence - known.log_evidence,
        ess=draws.ess,
        pareto_k=float(draws.pareto_k),
        elbo=draws.elbo,
        trustworthy=bool(draws.verdict.trustworthy),
        num_charts=int(getattr(getattr(posterior, "atlas", None), "num_charts", 1)),
        gradient_evaluations=draws.report.num_gradient_evaluations,
        seconds=seconds,
    )
    if known.modes is not None:
        shares = mode_shares(known.modes, draws.sites, np.asarray(draws.log_weight, float))
        found = found._replace(
            total_variation=total_variation(shares, known.modes.masses),
            num_modes=len(known.modes.masses),
            num_found=int(np.sum(shares >= FOUND * known.modes.masses)),
        )
    return {**bridge_row(case, known.limits, found), "failed": ""}


def bridge_row(case: Case, limits: Limits, found: Bridge) -> dict:
    """The columns of a row: the case, what was found, and which limits were reached."""
    reached = limits_reached(limits, found)
    words = (f"{limit}: {'yes' if ok else 'no'}" for limit, ok in reached.items())
    return {
        **case._asdict(),
        **found._asdict(),
        "limits": "; ".join(words),
        "missed": "; ".join(limit for limit, ok in reached.items() if not ok),
        **pages.commit_and_machine(),
    }


def mode_shares(modes: Modes, sites: dict[str, Any], log_weight: np.ndarray) -> np.ndarray:
    """The weighted share of the draws in each mode, shape `(num_modes,)`.

    A draw between two modes belongs to each in the measure of its responsibility, so that the
    shares tend to the masses of the modes even where these overlap.
    """
    weight = np.exp(log_weight - np.max(log_weight))
    return weight / np.sum(weight) @ np.asarray(modes.responsibilities(sites), float)


def total_variation(shares: np.ndarray, masses: np.ndarray) -> float:
    """Half the sum of the absolute differences: the mass in the wrong mode."""
    return float(0.5 * np.sum(np.abs(shares - masses)))


def limits_reached(limits: Limits, found: Bridge) -> dict[str, bool]:
    """Every limit that is asked, in words, and whether it was reached; a missing number is not."""
    missing = math.nan
    error, variation, pareto_k, seconds, ess, elbo, reference = (
        missing if value is None else value
        for value in (
            found.error,
            found.total_variation,
            found.pareto_k,
            found.seconds,
            found.ess,
            found.elbo,
            found.reference,
        )
    )
    within = [
        ("log evidence within", limits.log_evidence, abs(error)),
        ("masses within", limits.masses, variation),
        ("ELBO gap within", limits.elbo_gap, reference - elbo),
        ("k-hat below", limits.pareto_k, pareto_k),
        ("seconds below", limits.seconds, seconds),
    ]
    reached = {
        f"{name} {most:g}": bool(value <= most) for name, most, value in within if most is not None
    }
    if limits.ess is not None:
        reached[f"ESS above {limits.ess:g}"] = ess >= limits.ess
    if limits.all_modes:
        reached["all modes"] = found.num_modes is not None and found.num_found == found.num_modes
    return reached


# --- one row of NUTS ------------------------------------------------------------------------------


class Chains(NamedTuple):
    """What NUTS gave."""

    total_variation: float | None = None
    r_hat: float | None = None
    divergences: int | None = None
    seconds: float | None = None


def measure_nuts(case: Case, folders: Folders) -> dict:
    """Run four chains of NUTS, a thousand iterations after as many of warm-up."""
    known = load(case.target, *folders)
    start = time.perf_counter()
    mcmc = nuts.four_chains(known.model)
    mcmc.run(jax.random.key(case.key), *known.args, **known.kwargs, extra_fields=("diverging",))
    sites = jax.block_until_ready(mcmc.get_samples())
    seconds = time.perf_counter() - start
    by_site = summary(mcmc.get_samples(group_by_chain=True))
    r_hat = max(float(np.nanmax(site["r_hat"])) for site in by_site.values())
    found = Chains(
        total_variation=_variation_of_chains(known, sites),
        r_hat=r_hat,
        divergences=int(np.sum(mcmc.get_extra_fields()["diverging"])),
        seconds=seconds,
    )
    return {**nuts_row(case, found), "failed": ""}


def nuts_row(case: Case, found: Chains) -> dict:
    """The columns of a row."""
    return {**case._asdict(), **found._asdict(), **pages.commit_and_machine()}


def _variation_of_chains(known: AtlasTarget, sites: dict[str, Any]) -> float | None:
    if known.modes is None:
        return None
    num = len(next(iter(sites.values())))
    return total_variation(mode_shares(known.modes, sites, np.zeros(num)), known.modes.masses)
