"""Random NumPyro models, numbered: what is in each, and its data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from benchmarks import fuzz_parts
from benchmarks.fuzz_model import FAULTS, NUM_INNER, NUM_OUTER, TWISTS, Recipe, fuzzed

SEED = 20_250_123
NUM_RECIPES = 170
"""Numbers that differ by this have the same recipe, with other numbers and other data: what was
compiled for one serves the others."""

DIMS, DIM_SHARES = (1, 2, 3, 4, 5, 6), (0.2, 0.35, 0.2, 0.1, 0.1, 0.05)
ONE_FAULT_IN = 8
"""One recipe in so many cannot be sampled, for each reason in turn."""
OFTEN = {
    "effects": 4.0,
    "dynamic support": 1.5,
    "enumerated once": 2.0,
    "enumerated rows": 4.0,
    "far numbers": 0.4,
    "holes": 8.0,
    "lift": 1.5,
    "imputed outcome": 5.0,
    "mask none": 0.4,
    "noise": 8.0,
    "scale": 1.5,
    "scope": 2.0,
    "substitute": 0.5,
}
"""How often a twist is drawn, where not once: some go together with little else."""

CALLS = (
    "function",
    "keywords",
    "partial",
    "partial with data",
    "closure",
    "object",
    "bound method",
)
"""How the model takes its data; the likeliest first."""
CALL_SHARES = (0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1)


class Fuzz(NamedTuple):
    """A model with its data, as a user would hand it to a sampler."""

    number: int
    recipe: Recipe
    model: Any
    args: tuple
    kwargs: dict[str, Any]

    @property
    def refusal(self) -> str:
        """Words that the refusal must hold; empty for a model that can be sampled."""
        return FAULTS.get(self.recipe.fault, "")


def fuzz_of(number: int) -> Fuzz:
    """Make the model of this number; always the same one.

    Args:
        number: 0 or more.
    """
    recipe = recipe_of(number)
    rng = np.random.default_rng([SEED, 1, number])
    numbers, seen = _data(rng, recipe)
    return Fuzz(number, recipe, *_as_called(recipe, numbers, seen))


def recipe_of(number: int) -> Recipe:
    """Draw the recipe of this number."""
    number = number % NUM_RECIPES
    rng = np.random.default_rng([SEED, number])
    turn, is_whole = divmod(number, ONE_FAULT_IN)
    fault = "" if is_whole else list(FAULTS)[turn % len(FAULTS)]
    dim = int(rng.choice(DIMS, p=DIM_SHARES))
    for _ in range(10_000):
        recipe = _draw_recipe(rng, fault)
        if dim_of(recipe) == dim and _goes_together(recipe):
            return recipe
    raise RuntimeError(f"no recipe of {dim} dimensions was drawn for number {number}")


def dim_of(recipe: Recipe) -> int:
    """How many unconstrained coordinates the model has."""
    sizes = [fuzz_parts.PRIORS[name].dim for name in recipe.priors]
    sizes[0] *= {"": 1, "plate": NUM_OUTER, "nested": NUM_OUTER * NUM_INNER}[recipe.plates]
    return sum(sizes) + sum(TWISTS[name] for name in recipe.twists)


# --- recipes --------------------------------------------------------------------------------------


def _draw_recipe(rng: np.random.Generator, fault: str) -> Recipe:
    priors = rng.choice(list(fuzz_parts.PRIORS), rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1]))
    likelihood = str(rng.choice([*fuzz_parts.LIKELIHOODS, "none"]))
    kind = "real" if likelihood == "none" else fuzz_parts.LIKELIHOODS[likelihood].kind
    num_twists = 0 if fault else rng.choice([0, 1, 2, 3], p=[0.1, 0.35, 0.35, 0.2])
    twists = rng.choice(list(TWISTS), num_twists, replace=False, p=_shares(TWISTS))
    call = str(rng.choice(CALLS, p=CALL_SHARES))
    return Recipe(
        priors=tuple(map(str, priors)),
        plates=str(rng.choice(["", "plate", "nested"], p=[0.7, 0.2, 0.1])),
        likelihood=likelihood,
        num_rows=int(rng.choice([5, 8])),
        twists=tuple(sorted(map(str, twists))),
        choice=int(rng.integers(4)),
        data_type=str(rng.choice(fuzz_parts.TYPES[kind])),
        call="function" if fault else call,
        fault=fault,
    )


def _shares(names: Iterable[str]) -> np.ndarray:
    """The probability of each."""
    often = np.asarray([OFTEN.get(name, 1.0) for name in names])
    return often / often.sum()


NEEDS_ROWS = {"mask none", "mask rows", "holes", "scale", "event", "noise", "imputed outcome"}
"""Twists that are about what is seen."""
NEEDS_REAL = {"holes", "imputed outcome", "noise"}
"""Twists for which what is seen has to be a real number with a noise level."""
ENUMERATED = {"enumerated once", "enumerated rows"}
NOT_WITH_EVENT = {"mask rows", "holes", "enumerated rows", "imputed outcome"}
"""Twists that need a plate of rows."""


def _goes_together(recipe: Recipe) -> bool:
    """Whether the model would make sense to who writes it, for which NUTS has an answer."""
    twists = set(recipe.twists)
    real = recipe.likelihood in ("Normal", "StudentT", "Laplace")
    unseen = recipe.likelihood == "none"
    if unseen and twists & (NEEDS_ROWS | ENUMERATED):
        return False
    if twists & NEEDS_REAL and not real or {"holes", "imputed outcome"} <= twists:
        return False
    if {"imputed outcome", "mask none"} <= twists or {"imputed outcome", "mask rows"} <= twists:
        return False  # the missing value would be free to go anywhere
    if recipe.likelihood == "Beta" and recipe.data_type == "float16":
        return False  # its density is zero for NumPyro, and NUTS finds no start either
    if "event" in twists and twists & NOT_WITH_EVENT:
        return False
    # What is given from outside has another name inside, where NumPyro loses track of it.
    if "scope" in twists and twists & {"condition", "substitute", "scan", *ENUMERATED}:
        return False
    if {"lift", "substitute"} <= twists:
        return False
    if "noise" in twists and (recipe.priors[-1] not in fuzz_parts.POSITIVE or recipe.plates):
        return False
    needed = {"NaN": {"Normal", "StudentT", "Laplace"}, "outside": {"LogNormal", "Gamma", "Beta"}}
    if recipe.fault in needed and recipe.likelihood not in needed[recipe.fault]:
        return False
    if recipe.fault == "branch" and recipe.plates:
        return False
    return not (unseen and recipe.fault == "subsample")


# --- numbers and data -----------------------------------------------------------------------------


def _data(rng: np.random.Generator, recipe: Recipe) -> tuple[dict[str, Any], Any]:
    """Draw the numbers of a model, and what is seen."""
    rows, twists = recipe.num_rows, recipe.twists
    numbers: dict[str, Any] = {
        "priors": [fuzz_parts.draw_numbers(rng) for _ in recipe.priors],
        "covariates": rng.normal(size=(len(recipe.priors) + len(TWISTS), rows)),
        "group": np.arange(rows) % (NUM_OUTER * NUM_INNER),
        "kept": rng.uniform(size=rows) < 0.7,
        "offset": np.asarray(rng.normal() * 0.5),
        "noise": np.asarray(rng.uniform(0.4, 1.5)),
        "tilt": np.asarray(rng.uniform(0.1, 0.6)),
        "count": np.asarray(rng.poisson(2.0)),
    }
    if "far numbers" in twists:
        numbers["day"] = 2_460_000.0 + rng.uniform(size=rows)
    if "imputed covariate" in twists:
        numbers["covariates"][0, -1] = np.nan
    if recipe.likelihood == "none":
        return numbers, None
    likelihood = fuzz_parts.LIKELIHOODS[recipe.likelihood]
    eta = numbers["offset"] + 0.8 * rng.normal(size=rows)
    seen = np.asarray(likelihood.draw(rng, eta, float(numbers["noise"])))
    if recipe.fault == "outside":
        seen = np.full_like(seen, -1.0)
    if recipe.fault == "NaN" or "imputed outcome" in twists:
        seen[-1] = np.nan
    if "holes" in twists:
        seen[rng.uniform(size=rows) < 0.4] = np.nan
    return numbers, fuzz_parts.as_type(seen, recipe.data_type)


# --- how the model is called ----------------------------------------------------------------------


@dataclass
class Held:
    """A model that is an object, which keeps its numbers to itself."""

    model: Callable
    numbers: dict[str, Any]

    def __call__(self, seen):
        """Run the model."""
        self.model(self.numbers, seen)

    def method(self, seen=None):
        """Run the model, too."""
        self.model(self.numbers, seen)


def _as_called(recipe: Recipe, numbers: dict, seen: Any) -> tuple[Any, tuple, dict[str, Any]]:
    """The model, its positional arguments and its keyword arguments."""
    model: Any = fuzzed
    if "condition" in recipe.twists or recipe.fault == "nothing latent":
        known: dict[str, Any] = {"known": np.asarray(0.7)}
        if recipe.fault:
            known = dict.fromkeys((f"latent{i}" for i in range(len(recipe.priors))), 0.5)
            recipe = replace(recipe, priors=("Normal",) * len(recipe.priors), plates="")
        model = handlers.condition(model, data=known)
    if "substitute" in recipe.twists:
        model = handlers.substitute(model, data={"theta": jnp.asarray(0.4)})
    if recipe.fault == "no function":
        return {"model": recipe}, (numbers, seen), {}
    if recipe.fault == "wrong arguments":
        return model, (recipe, numbers, seen), {"weights": np.ones(3)}

    def closure():
        model(recipe, numbers, seen)

    held = Held(partial(model, recipe), numbers)
    return {
        "function": (model, (recipe, numbers, seen), {}),
        "keywords": (model, (recipe,), {"seen": seen, "numbers": numbers}),
        "partial": (partial(model, recipe), (numbers,), {"seen": seen}),
        "partial with data": (partial(model, recipe, numbers, seen=seen), (), {}),
        "closure": (closure, (), {}),
        "object": (held, (seen,), {}),
        "bound method": (held.method, (), {"seen": seen}),
    }[recipe.call]
