"""The targets of the atlas benchmark: what is sampled, what is known of it, and what is asked."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

import numpyro_bridge as nb
from benchmarks import atlas_densities as plain
from benchmarks import atlas_evidence as evidence
from benchmarks import atlas_models as models
from benchmarks import densities, targets
from benchmarks.atlas_densities import Modes, one_of


class Limits(NamedTuple):
    """What a sampler with the defaults is asked to reach; None where nothing is asked."""

    log_evidence: float | None = None
    """The largest error of the log evidence, in nats."""
    masses: float | None = None
    """The largest total variation between the masses of the modes and the true ones."""
    elbo_gap: float | None = None
    """The largest distance of the ELBO below the log evidence, in nats."""
    pareto_k: float | None = None
    """The largest k-hat of the log weights."""
    ess: float | None = None
    """The least effective sample size, as a share of the draws."""
    seconds: float | None = None
    """The longest time, compilation included."""
    all_modes: bool = False
    """Whether every mode has to be found."""


class AtlasTarget(NamedTuple):
    """A model or a density, and what is known of it."""

    subject: Callable[..., Any] | nb.target.Target
    log_evidence: float | None
    """In nats; None where nobody knows it."""
    limits: Limits
    modes: Modes | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}

    @property
    def model(self) -> Callable[..., Any]:
        """The NumPyro model; that of a plain density has one site, "x", and a factor."""
        target = self.subject
        return model_of(target) if isinstance(target, nb.target.Target) else target


def model_of(target: nb.target.Target) -> Callable[..., Any]:
    def model():
        flat = dist.ImproperUniform(constraints.real_vector, (), (target.dim,))
        position = jnp.asarray(numpyro.sample("x", flat))
        numpyro.factor("density", target.log_density(position))

    return model


def load(name: str, data: Path, cases: Path | None = None) -> AtlasTarget:
    """Make one target.

    Args:
        name: One of `NAMES` or of `CASES`.
        data: The folder of the benchmark data.
        cases: The folder of the cases, needed for those in `CASES`.

    Raises:
        ValueError: if there is no target of this name, or `cases` is missing.
    """
    if name in LOADERS:
        return LOADERS[name](data)
    if name not in CASES:
        raise ValueError(f"no target {name!r}; choose from {', '.join((*NAMES, *CASES))}")
    if cases is None:
        raise ValueError(f"{name} is read from the folder of the cases: give it as --cases FOLDER")
    return _load_case(name, cases)


# --- plain densities ------------------------------------------------------------------------------


def _of(density: plain.Density, limits: Limits) -> AtlasTarget:
    return AtlasTarget(density.target, density.log_evidence, limits, density.modes)


def _normals(num: int, dim: int):
    limits = Limits(log_evidence=0.02, masses=0.01, seconds=45)
    return lambda data: _of(plain.density_of(plain.normal_mixture(num, dim)), limits)


def _published(name: str, limits: Limits, modes_of: Callable[[Any], Modes] | None = None):
    """A density that other studies use too; `modes_of` is given the centres of its modes."""

    def load_one(data: Path) -> AtlasTarget:
        density = densities.LOADERS[name](data)
        modes = modes_of and modes_of(density.modes)
        return AtlasTarget(density.target, density.log_evidence, limits, modes)

    return load_one


# --- models ---------------------------------------------------------------------------------------


def _lines(num: int):
    def load_one(data: Path) -> AtlasTarget:
        return AtlasTarget(
            models.mixture_of_lines,
            evidence.RECORDED[f"lines_{num}"],
            Limits(log_evidence=0.05, masses=0.03),
            models.label_orders("slope", num),
            kwargs=models.lines_data(num),
        )

    return load_one


def _mixture_of_two(data: Path) -> AtlasTarget:
    return AtlasTarget(
        models.mixture_of_two,
        evidence.RECORDED["gauss_mix_unordered"],
        Limits(log_evidence=0.03, masses=0.02),
        models.label_orders("mu", 2),
        kwargs=models.mixture_of_two_data(data),
    )


def _cauchy(data: Path) -> AtlasTarget:
    kwargs = models.cauchy_data()
    log_evidence, masses = evidence.cauchy_location(kwargs["y"])
    clusters = one_of(2, lambda sites: models.nearest_cluster(sites["location"]))
    limits = Limits(log_evidence=0.03, masses=0.02)
    modes = Modes(masses, clusters)
    return AtlasTarget(models.cauchy_location, log_evidence, limits, modes, kwargs=kwargs)


def _schools(model: Callable[..., Any], log_prior: Callable[[np.ndarray], np.ndarray]):
    def load_one(data: Path) -> AtlasTarget:
        kwargs = models.schools_data(data)
        log_evidence = evidence.schools_evidence(**kwargs, log_prior=log_prior)
        return AtlasTarget(model, log_evidence, Limits(log_evidence=0.03), kwargs=kwargs)

    return load_one


def _brownian(data: Path) -> AtlasTarget:
    known = targets.load("brownian", data)
    limits = Limits(log_evidence=0.01, pareto_k=0.7)
    return AtlasTarget(known.model, known.reference.log_evidence, limits, kwargs=known.kwargs)


def _horseshoe(num: int, orthogonal: bool):
    def load_one(data: Path) -> AtlasTarget:
        kwargs = models.horseshoe_data(num, orthogonal)
        known = evidence.orthogonal_horseshoe_evidence(**kwargs) if orthogonal else None
        limits = Limits(log_evidence=0.1 if orthogonal else None)
        return AtlasTarget(models.horseshoe, known, limits, kwargs=kwargs)

    return load_one


LOADERS: dict[str, Callable[[Path], AtlasTarget]] = {
    **{f"normals_{k}_{d}d": _normals(k, d) for k in (2, 4, 8) for d in (2, 5, 10, 20)},
    "gmm40_2d": _published(
        "gmm40_2d", Limits(0.02, 0.03, all_modes=True), plain.equal_normal_modes
    ),
    "gmm40_50d": _published(
        "gmm40_50d", Limits(0.05, 0.05, elbo_gap=0.5, all_modes=True), plain.equal_normal_modes
    ),
    "students_50d": _published("students_50d", Limits(0.1, 0.05), plain.equal_student_modes),
    "double_wells_5d": _published(
        "double_wells", Limits(0.05), lambda centres: plain.corner_modes(5)
    ),
    "many_well_32d": _published("many_well", Limits(0.15), lambda _: plain.shallow_counts()),
    "lines_3": _lines(3),
    "lines_4": _lines(4),
    "gauss_mix_unordered": _mixture_of_two,
    "cauchy_location": _cauchy,
    "ring": lambda data: _of(plain.ring(), Limits(0.02, pareto_k=0.7)),
    "moons": lambda data: _of(plain.moons(), Limits(0.02, pareto_k=0.7)),
    "funnel_10d": _published("funnel", Limits(0.03, pareto_k=0.5, ess=0.8)),
    "rosenbrock_4d": lambda data: _of(plain.rosenbrock(2), Limits(0.03, pareto_k=0.7)),
    "rosenbrock_10d": lambda data: _of(plain.rosenbrock(5), Limits(0.03, pareto_k=0.7)),
    "schools_half_cauchy": _schools(models.schools_half_cauchy, evidence.log_half_cauchy),
    "schools_inverse_gamma": _schools(models.schools_inverse_gamma, evidence.log_inverse_gamma),
    "brownian": _brownian,
    "horseshoe_orthogonal_41d": _horseshoe(20, True),
    "horseshoe_orthogonal_101d": _horseshoe(50, True),
    "horseshoe_correlated_41d": _horseshoe(20, False),
    "horseshoe_correlated_101d": _horseshoe(50, False),
}

NAMES = tuple(LOADERS)

# --- cases of a folder ----------------------------------------------------------------------------


def _no_modes(case: ModuleType) -> None:
    return None


def _two(truth: str, is_first: Callable[[dict[str, np.ndarray]], np.ndarray]):
    """Two modes, of which the truth of the case holds the mass of the first."""

    def modes(case: ModuleType) -> Modes:
        first = case.TRUTH[truth]
        return Modes(np.asarray([first, 1 - first]), one_of(2, lambda sites: ~is_first(sites)))

    return modes


def _two_rings(case: ModuleType) -> Modes:
    """Rotations with and without a reflection have the same mass by symmetry."""
    return Modes(
        np.full(2, 0.5), one_of(2, lambda sites: np.linalg.det(sites["w"][:, :2].astype(float)) > 0)
    )


def _aliases(case: ModuleType) -> Modes:
    """The frequencies that the case lists, and one more mode for all the rest."""
    known = np.asarray(case.TRUTH["alias_mass"])
    num = len(known)
    masses = np.append(known, max(1 - known.sum(), 0.0))

    def index_of(sites):
        nearest = np.rint((sites["freq"] - 0.83) * case.GAP).astype(int) + 19
        return np.where((nearest >= 0) & (nearest < num), nearest, num)

    return Modes(masses, one_of(num + 1, index_of))


CASES: dict[str, Callable[[ModuleType], Modes | None]] = {
    "mirror_location": _two("above_mass", lambda sites: sites["place"][:, 1] > 0),
    "pk_flip_flop": _two("usual_mass", lambda sites: sites["log_ka"] > sites["log_ke"]),
    "sinusoid_aliases": _aliases,
    "factor_rotation": _two_rings,
    "truncated_funnel_prior": _no_modes,
}
"""Names of cases, each with what makes its modes."""


def _load_case(name: str, folder: Path) -> AtlasTarget:
    case = _module(name, folder / f"{name}.py")
    args, kwargs = case.data()
    modes = CASES[name](case)
    limits = Limits(log_evidence=0.05, masses=None if modes is None else 0.03)
    return AtlasTarget(case.model, case.LOG_EVIDENCE, limits, modes, args, kwargs)


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a file of Python")
    module = importlib.util.module_from_spec(spec)
    # JAX looks up the module of a function that it compiles.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
