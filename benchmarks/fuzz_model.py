"""The one model function of the fuzzer: it does what a recipe says."""

# NumPyro declares what a site returns as anything array-like.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportReturnType=false
# pyright: reportOptionalMemberAccess=false, reportAttributeAccessIssue=false

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints, transforms
from numpyro.infer.reparam import CircularReparam, LocScaleReparam, TransformReparam

from benchmarks.fuzz_parts import LIKELIHOODS, PRIORS

NUM_OUTER, NUM_INNER = 2, 2
"""Sizes of the plates of the first latent site."""

DAY_ZERO = 2_460_000.5

TWISTS = {
    "condition": 0,
    "deterministic": 0,
    "dynamic support": 1,
    "effects": 2,
    "enumerated once": 0,
    "enumerated rows": 0,
    "event": 0,
    "factor": 0,
    "factors": 0,
    "far numbers": 0,
    "holes": 0,
    "imputed covariate": 1,
    "imputed outcome": 1,
    "lift": 1,
    "mask none": 0,
    "mask rows": 0,
    "masked prior": 1,
    "noise": 0,
    "scale": 0,
    "scaled prior": 0,
    "scan": 2,
    "scope": 0,
    "second observation": 0,
    "substitute": 0,
}
"""What a model may have besides, and the unconstrained coordinates that it adds."""

FAULTS = {
    "branch": "needs the number",
    "circular reparam": "CircularReparam",
    "counts without data": "is discrete",
    "Delta": "has a Delta distribution",
    "flat": "posterior is improper",
    "NaN": "NaN",
    "no function": "is a function",
    "nothing latent": "no continuous latent site",
    "outside": "outside the support",
    "param": "is a numpyro.param",
    "subsample": "takes a subsample",
    "wrong arguments": "does not accept these arguments",
}
"""Why a model cannot be sampled, and words that the refusal must hold."""


@dataclass(frozen=True)
class Recipe:
    """What a model is made of; hashable, so that models of one recipe share programs."""

    priors: tuple[str, ...]
    """Keys of `PRIORS`, one for each latent site."""
    plates: str
    """Around the first latent site: none, a "plate", or two that are "nested"."""
    likelihood: str
    """A key of `LIKELIHOODS`, or "none"."""
    num_rows: int
    twists: tuple[str, ...]
    choice: int
    """Which of the four variants of a twist."""
    data_type: str
    call: str
    """How the model is given its data."""
    fault: str
    """Why it cannot be sampled; empty if it can."""

    def __str__(self) -> str:
        """Name all that is not usual."""
        plates = {"": "", "plate": "in a plate", "nested": "in nested plates"}[self.plates]
        parts = [" and ".join(self.priors), plates, self.likelihood, *self.twists]
        parts += [self.data_type, self.call, self.fault and f"fault: {self.fault}"]
        return ", ".join(part for part in parts if part)


def fuzzed(recipe: Recipe, numbers: dict[str, Any], seen: Any):
    """Run the model of a recipe.

    Args:
        recipe: What the model is made of.
        numbers: Hyperparameters and covariates.
        seen: One row of data for each row of the covariates, or None.
    """
    with ExitStack() as around:
        if "scope" in recipe.twists:
            around.enter_context(handlers.scope(prefix="inner"))
        values = [*_latent(recipe, numbers)]
        scores = [
            PRIORS[name].score(value) for name, value in zip(recipe.priors, values, strict=True)
        ]
        noise = numbers["noise"]
        if "noise" in recipe.twists:
            noise, scores[-1] = values[-1], jnp.zeros(())
        scores += [*_extra(recipe, numbers, scores[0])]
        if recipe.fault:
            _fault(recipe, scores)
        covariates = jnp.asarray(numbers["covariates"])
        if "imputed covariate" in recipe.twists:
            missing = numpyro.sample("covariate", dist.Normal(0.0, 1.0))
            covariates = jnp.where(jnp.isnan(covariates), missing, covariates)
        eta = numbers["offset"] + sum(
            covariate * _of_rows(score, numbers["group"])
            for covariate, score in zip(covariates, scores, strict=False)
        )
        if "far numbers" in recipe.twists:
            eta = eta + 0.5 * (numbers["day"] - DAY_ZERO)
        _factors(recipe, numbers, scores, eta)
        if recipe.likelihood != "none":
            _see(recipe, numbers, seen, eta, noise)


def _of_rows(score: Array, group: Any) -> Array:
    """The score of each row: that of its group, if there are several."""
    flat = jnp.ravel(score)
    return flat[group % flat.size]


# --- latent sites ---------------------------------------------------------------------------------


def _latent(recipe: Recipe, numbers: dict[str, Any]) -> Iterator[Array]:
    """Sample the sites that every recipe has."""
    for i, name in enumerate(recipe.priors):
        with ExitStack() as around:
            if i == 0 and recipe.plates == "nested":
                around.enter_context(numpyro.plate("outer", NUM_OUTER, dim=-2))
                around.enter_context(numpyro.plate("inner", NUM_INNER, dim=-1))
            elif i == 0 and recipe.plates:
                around.enter_context(numpyro.plate("outer", NUM_OUTER))
            if i == 0 and "scaled prior" in recipe.twists:
                around.enter_context(handlers.scale(scale=1.5))
            yield numpyro.sample(f"latent{i}", PRIORS[name].make(numbers["priors"][i]))


def _extra(recipe: Recipe, numbers: dict[str, Any], score: Array) -> Iterator[Array]:
    """Sample the sites of the twists."""
    first = jnp.mean(score)
    if "condition" in recipe.twists:
        yield numpyro.sample("known", dist.Normal(0.0, 1.0))
    if "substitute" in recipe.twists:
        yield jnp.asarray(numpyro.param("theta", jnp.asarray(0.0)))
    if "lift" in recipe.twists:
        with handlers.lift(prior={"theta": dist.Normal(0.0, 1.0)}):
            yield numpyro.param("theta", jnp.asarray(0.0))
    if "dynamic support" in recipe.twists:
        bound = dist.Uniform(first, first + 2.0)
        other = dist.TruncatedNormal(first, 1.0, low=first - 1.0)
        yield numpyro.sample("between", bound if recipe.choice % 2 else other) - first
    if "masked prior" in recipe.twists:
        # Without a density of its own, and held in place by a factor.
        with handlers.mask(mask=False):
            free = numpyro.sample("free", dist.Normal(0.0, 1.0))
        numpyro.factor("hold", dist.Normal(0.3, 0.8).log_prob(free))
        yield free
    if "effects" in recipe.twists:
        yield _effects(recipe, numbers, first)
    if "scan" in recipe.twists:

        def step(level, _):
            level = numpyro.sample("level", dist.Normal(0.8 * level, 0.7))
            return level, level

        _, levels = scan(step, 0.3 * jnp.tanh(first), None, length=2)
        yield levels


def _effects(recipe: Recipe, numbers: dict[str, Any], centre: Array) -> Array:
    """Effects of two groups, in other coordinates."""
    width = numbers["priors"][0]["width"]
    normal = dist.Normal(centre, width)
    config = (LocScaleReparam(0), LocScaleReparam(0.5), LocScaleReparam(None), TransformReparam())
    if recipe.choice == 3:
        affine = transforms.AffineTransform(centre, width)
        normal = dist.TransformedDistribution(dist.Normal(0.0, 1.0), affine)
    with handlers.reparam(config={"effect": config[recipe.choice]}):
        with numpyro.plate("group", 2):
            return numpyro.sample("effect", normal)


def _fault(recipe: Recipe, scores: list[Array]):
    """Say what has no density on flat vectors."""
    if recipe.fault == "branch":
        if jnp.mean(scores[0]) > 0:
            scores.append(jnp.zeros(()))
    elif recipe.fault == "circular reparam":
        with handlers.reparam(config={"angle": CircularReparam()}):
            scores.append(jnp.sin(numpyro.sample("angle", dist.VonMises(0.0, 2.0))))
    elif recipe.fault == "counts without data":
        scores.append(0.1 * numpyro.sample("tally", dist.Poisson(3.0)))
    elif recipe.fault == "Delta":
        scores.append(numpyro.sample("certain", dist.Delta(0.3)))
    elif recipe.fault == "flat":
        numpyro.sample("endless", dist.ImproperUniform(constraints.real, (), ()))
    elif recipe.fault == "param":
        scores.append(jnp.asarray(numpyro.param("theta", jnp.asarray(0.2))))
        numpyro.factor("tied", -((scores[-1] - jnp.mean(scores[0])) ** 2))


# --- factors and data -----------------------------------------------------------------------------


def _factors(recipe: Recipe, numbers: dict[str, Any], scores: list[Array], eta: Array):
    """Add what is neither a prior nor a row of data."""
    first = jnp.mean(scores[0])
    if "factor" in recipe.twists or "factors" in recipe.twists:
        numpyro.factor("tilt", -numbers["tilt"] * first**2)
    if "factors" in recipe.twists:
        with numpyro.plate("row of factors", recipe.num_rows):
            numpyro.factor("rows", -0.1 * numbers["tilt"] * jnp.square(eta))
        numpyro.factor("constant", 2.5)
    if "deterministic" in recipe.twists:
        numpyro.deterministic("twice", 2 * scores[0])
        numpyro.deterministic("eta", eta)
    if "second observation" in recipe.twists:
        rate = jnp.exp(0.4 * jnp.mean(eta))
        numpyro.sample("count", dist.Poisson(rate), obs=numbers["count"])


KINDS = (
    lambda: dist.Bernoulli(0.4),
    lambda: dist.Categorical(jnp.asarray([0.2, 0.5, 0.3])),
    lambda: dist.DiscreteUniform(0, 2),
    lambda: dist.Binomial(2, 0.3),
)


def _enumerated(name: str, choice: int) -> Array:
    # NumPyro writes into the dictionary, which must be a new one for each site.
    return numpyro.sample(name, KINDS[choice](), infer={"enumerate": "parallel"})


def _see(recipe: Recipe, numbers: dict[str, Any], seen: Any, eta: Array, noise: Array):
    """Observe the rows, in their plate."""
    twists = recipe.twists
    seen = jnp.asarray(seen) if isinstance(seen, list) else seen
    if "imputed outcome" in twists:
        missing = numpyro.sample("missing", dist.Normal(0.0, 1.0).mask(False))
        seen = jnp.where(jnp.isnan(seen), missing, seen)
    if "enumerated once" in twists:
        eta = eta + 1.5 * _enumerated("state", recipe.choice)
    make = LIKELIHOODS[recipe.likelihood].make
    with ExitStack() as around:
        if "scale" in twists:
            around.enter_context(handlers.scale(scale=0.5))
        if "mask none" in twists:
            around.enter_context(handlers.mask(mask=False))
        if "event" in twists:
            numpyro.sample("seen", make(eta, noise).to_event(1), obs=seen)
            return
        size = 2 if recipe.fault == "subsample" else None
        around.enter_context(numpyro.plate("row", recipe.num_rows, subsample_size=size))
        if "mask rows" in twists:
            around.enter_context(handlers.mask(mask=numbers["kept"]))
        if "enumerated rows" in twists:
            eta = eta + 1.5 * _enumerated("kind", recipe.choice)
        if "deterministic" in twists:
            numpyro.deterministic("of rows", eta)
        holes = handlers.mask(mask=~jnp.isnan(seen)) if "holes" in twists else nullcontext()
        with holes:
            numpyro.sample("seen", make(eta, noise), obs=seen)
