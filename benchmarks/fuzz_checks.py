"""What a random model is checked for: its density, exactly, and what the defaults make of it."""

import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from benchmarks.fuzz_models import Fuzz, dim_of, fuzz_of
from benchmarks.fuzz_reference import Independent, Reference, independent, reference
from numpyro_bridge.target import REPLACED_LOG_DENSITY, ModelTarget, target_from_model

PACKAGE = Path(nb.__file__).parent

NUM_POINTS = 6
VALUES_WITHIN, SCORES_WITHIN = 1e-9, 1e-6
"""Relative errors of log densities and values, and of gradients, in float64."""
SHORT_TYPES, SHORT_WITHIN = ("float32", "float16", "int32", "uint8"), 3e-5
"""Of data in 32 bits and fewer NumPyro takes logarithms in these."""

NUM_DRAWS, MANY_DRAWS = 4_000, 64_000
"""What is wrong in the first has to be wrong in as many as the second too."""
EVIDENCE_ERRORS, EVIDENCE_SLACK = 3.0, 0.03
"""A log evidence is right within so many errors (stated and of the reference), and nats besides."""
MEAN_WITHIN = SD_WITHIN = 0.1
"""Means are right within this many standard deviations, and these within this share of them."""


FindAnswer = Callable[[int], Reference | None]


class Outcome(NamedTuple):
    """What a check found; None where there is nothing to say."""

    outcome: str
    why: str = ""
    """What is wrong, or the words of a refusal or of a doubt."""
    method: str | None = None
    """Where the reference is from."""
    truth: float | None = None
    evidence_off: float | None = None
    """Estimate minus reference, in nats."""
    log_evidence_error: float | None = None
    mean_off: float | None = None
    sd_off: float | None = None
    ess: float | None = None
    pareto_k: float | None = None
    num_charts: int | None = None
    trusted: bool | None = None
    right: bool | None = None


GOOD = ("agrees", "agrees in more draws", "untrusted", "refused", "no reference")
BAD = ("crash", "silent disagreement", "wrongly refused", "wrongly accepted")
"""Every outcome; none of these last ones may be."""


def check(fuzz: Fuzz, by) -> Outcome:
    """Check one model.

    Args:
        fuzz: A model with its data.
        by: `density` or `sampler`.
    """
    with warnings.catch_warnings():
        # NumPyro warns of circular sites; and every model of a sort may be warned of once.
        warnings.simplefilter("ignore")
        try:
            found = by(fuzz)
        except Exception as error:
            return _of_error(fuzz, error)
    if fuzz.refusal:
        return Outcome("wrongly accepted", f"expected a refusal with '{fuzz.refusal}'")
    return found


def _of_error(fuzz: Fuzz, error: Exception) -> Outcome:
    """Tell a refusal that is one of ours from a crash."""
    words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    raised_at = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    ours = isinstance(error, ValueError) and raised_at.is_relative_to(PACKAGE)
    if not ours:
        return Outcome("crash", words)
    if not fuzz.refusal:
        return Outcome("wrongly refused", words)
    if fuzz.refusal not in str(error):
        return Outcome("crash", f"expected a refusal with '{fuzz.refusal}', got {words}")
    return Outcome("refused", words)


# --- the density ----------------------------------------------------------------------------------


def density(fuzz: Fuzz) -> Outcome:
    """Compare the target with NumPyro's own potential energy; float64 has to be switched on."""
    target = target_from_model(jax.random.key(0), fuzz.model, *fuzz.args, **fuzz.kwargs)
    posterior = independent(fuzz.model, fuzz.args, fuzz.kwargs)
    within = SHORT_WITHIN if fuzz.recipe.data_type in SHORT_TYPES else VALUES_WITHIN
    wrong = [*_differences(target, posterior, within)]
    if target.dim != dim_of(fuzz.recipe):
        wrong.append(f"{target.dim} dimensions instead of {dim_of(fuzz.recipe)}")
    return Outcome("silent disagreement" if wrong else "agrees", "; ".join(wrong))


def _differences(target: ModelTarget, posterior: Independent, within: float):
    """Yield what is not the same, in words."""
    if list(target.sites.items()) != list(posterior.shapes.items()):
        yield f"sites {target.sites} instead of {posterior.shapes}"
        return
    points = np.random.default_rng(0).uniform(-2, 2, (NUM_POINTS, target.dim))

    @eqx.filter_jit
    def ours(target, points):
        def one(position):
            point = target.at(position)
            sites = target.constrain(position)
            parts = point.log_density
            if not target.sums_out:
                parts = target.log_prior(position) + target.log_likelihood(position)
            return point.log_density, point.score, sites, parts, target.unconstrain(sites)

        return jax.vmap(one)(points)

    @jax.jit
    @jax.vmap
    def theirs(position):
        return *jax.value_and_grad(posterior.log_density)(position), posterior.sites(position)

    log_density, score, sites, parts, back = ours(target, jnp.asarray(points))
    expected, expected_score, expected_sites = theirs(points)
    is_finite = np.isfinite(expected)
    if not np.any(is_finite):
        yield "no point with a finite density"
    if not np.all(np.where(is_finite, True, log_density == REPLACED_LOG_DENSITY)):
        yield "a density that is not finite is not replaced"
    yield from _far("log density", log_density[is_finite], expected[is_finite], within)
    has_score = is_finite & np.all(np.isfinite(expected_score), axis=1)
    yield from _far(
        "score", score[has_score], expected_score[has_score], max(within, SCORES_WITHIN)
    )
    if not np.all(np.isfinite(score)):
        yield "a score is not finite"
    yield from _far("prior and likelihood", parts[is_finite], expected[is_finite], within)
    yield from _far("position after a round trip", back, points, SCORES_WITHIN)
    missing = set(target.sites) - set(sites)
    strange = set(sites) - set(expected_sites)
    if missing or strange:
        yield f"sites {missing} are missing, {strange} should not be there"
    for name in set(sites) & set(expected_sites):
        yield from _far(name, sites[name], expected_sites[name], VALUES_WITHIN)
    drawn = target.prior_positions(jax.random.key(1), 3)
    if drawn is not None and not (drawn.shape == (3, target.dim) and np.all(np.isfinite(drawn))):
        yield "draws of the prior are not finite, or of another shape"


def _far(name: str, found, expected, within: float):
    """Yield the name and the largest error, if it is too large."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape:
        yield f"{name} of shape {found.shape} instead of {expected.shape}"
    elif not np.allclose(found, expected, rtol=within, atol=within, equal_nan=True):
        yield f"{name} off by {np.max(np.abs(found - expected)):.2g}"


# --- the sampler ----------------------------------------------------------------------------------


def answer_to(number: int) -> Reference | None:
    """Find the answer to a model, where float64 is switched on."""
    fuzz = fuzz_of(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reference(independent(fuzz.model, fuzz.args, fuzz.kwargs))


def sampler(fuzz: Fuzz, find_answer: FindAnswer = answer_to, **settings) -> Outcome:
    """Run the sampler from the model to weighted draws, and compare with an independent answer.

    Args:
        fuzz: A model with its data.
        find_answer: Finds the answer to a number.
        **settings: Of `nb.BridgeSampler`; none for its defaults.
    """
    run_key, draw_key = jax.random.split(jax.random.key(fuzz.number))
    made = nb.BridgeSampler(fuzz.model, progress_bar=False, **settings)
    posterior = made.run(run_key, *fuzz.args, **fuzz.kwargs)
    draws = posterior.sample(draw_key, NUM_DRAWS)
    if fuzz.refusal:
        return Outcome("wrongly accepted")
    answer = find_answer(fuzz.number)
    atlas = posterior.atlas
    found = Outcome(
        "no reference",
        ess=float(draws.ess),
        pareto_k=float(draws.pareto_k),
        num_charts=1 if atlas is None else atlas.num_charts,
        trusted=draws.verdict.trustworthy,
    )
    if answer is None:
        return found
    found = _compared(found, answer, draws)
    if not found.trusted:
        text = " ".join(draws.verdict.text.split())
        why = "; ".join(filter(None, [found.why, text]))
        return found._replace(outcome="untrusted", why=why)
    if found.right:
        return found._replace(outcome="agrees")
    # Is it the posterior that is wrong, or were these draws unlucky?
    more = posterior.sample(jax.random.fold_in(draw_key, 1), MANY_DRAWS)
    again = _compared(found, answer, more)
    outcome = "agrees in more draws" if again.right else "silent disagreement"
    why = f"{found.why}; of {MANY_DRAWS:,} draws: {again.why or 'right'}"
    return found._replace(outcome=outcome, why=why)


def _compared(found: Outcome, answer: Reference, draws: nb.Draws) -> Outcome:
    """Say how far these draws are from the answer, and what of it is wrong."""
    mean_off, sd_off = _moment_errors(answer, draws)
    off = None
    if answer.log_evidence is not None and draws.target.has_evidence:
        off = float(draws.log_evidence) - answer.log_evidence
    found = found._replace(
        log_evidence_error=float(draws.log_evidence_error),
        method=answer.method,
        truth=answer.log_evidence,
        evidence_off=off,
        mean_off=mean_off,
        sd_off=sd_off,
    )
    wrong = "; ".join(_what_is_wrong(found, answer))
    return found._replace(why=wrong, right=not wrong)


def _moment_errors(answer: Reference, draws: nb.Draws) -> tuple[float, float]:
    """The largest errors of the weighted means and deviations, in deviations of the answer.

    Raises:
        RuntimeError: if a site of the draws is none of NumPyro's.
    """
    log_weight = np.asarray(draws.log_weight, float)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean_off, sd_off = [0.0], [0.0]
    for name, values in draws.sites.items():
        if name not in answer.moments:
            raise RuntimeError(f"the draws have a site {name}, NumPyro {list(answer.moments)}")
        moments = answer.moments[name]
        sd = np.where(moments.is_checked, moments.sd, 1.0)
        value = (np.asarray(values, float) - moments.mean) / sd
        centre = np.tensordot(weight, value, 1)
        spread = np.sqrt(np.tensordot(weight, (value - centre) ** 2, 1))
        mean_off.append(np.max(np.abs(centre), where=moments.is_checked, initial=0.0))
        sd_off.append(np.max(np.abs(spread - 1), where=moments.is_checked, initial=0.0))
    return float(np.max(mean_off)), float(np.max(sd_off))


def _what_is_wrong(found: Outcome, answer: Reference):
    """Yield every part of an answer that is not right; what is not a number is not right."""
    off, stated = found.evidence_off, found.log_evidence_error
    assert stated is not None and found.mean_off is not None and found.sd_off is not None
    error = float(np.hypot(stated, answer.error))
    if off is not None and not abs(off) <= EVIDENCE_ERRORS * error + EVIDENCE_SLACK:
        yield f"log evidence off by {off:.3f} ± {error:.3f}"
    if not found.mean_off <= MEAN_WITHIN:
        yield f"a mean off by {found.mean_off:.2f} sd"
    if not found.sd_off <= SD_WITHIN:
        yield f"an sd off by {found.sd_off:.0%}"
