"""Everything public that takes arguments, and what of it is no door."""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpyro.distributions as dist
from numpyro.infer import ELBO
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.mcmc import MCMCKernel

import numpyro_bridge as nb
from tests.namespaces import NAMESPACES

INTERFACES = (
    nb.target.Target,
    nb.atlas.AbstractMap,
    nb.atlas.AbstractAffineMap,
    nb.atlas.AbstractPartition,
    nb.processes.AbstractProcess,
    nb.processes.AbstractPart,
    nb.processes.AbstractInitialDistribution,
    nb.processes.AbstractKernel,
    nb.objectives.AbstractCurriculum,
    nb.processes.OBABO,
    MCMCKernel,
    AutoContinuous,
    ELBO,
    dist.Distribution,
)
"""Methods of these are called by this package or by NumPyro, inside compiled code, with what they
have made; a user writes them and does not call them."""

MATHEMATICS = (
    "InitialMixture.draw",
    "InitialMixture.log_prob",
    "Diffusion.variance",
    "AnnealingSchedule.score",
    "WithLogFlow.log_flow",
    "MixturePartition.log_density",
    "Piece.log_share",
    "Denoiser.at_level",
    "Denoiser.noise_error",
    "Denoiser.prediction",
    "Samples.minibatch",
    "Noisy.moved",
    "predicts_clean",
    "predicts_flow",
    "predicts_noise",
    "predicts_velocity",
    "ddim_step",
    "ddpm_step",
    "dpm_solver_step",
    "euler_step",
    "heun_step",
    "joined_in_order",
    "repeat_good_rows",
)
"""Steps and formulas that are called inside compiled code, where numbers are not known."""

METHODS_OF_SAMPLERS = (
    "rates",
    "noised",
    "force",
    "force_parameters",
    "forward_control",
    "backward_control",
)
"""What a base class of several samplers asks its subclasses for."""

RECORDS = (
    "LogDensityTarget",
    "ModelTarget",
    "Point",
    "Prior",
    "Atlas",
    "ChartedTarget",
    "Charts",
    "DenseMap",
    "Exploration",
    "MapFit",
    "MixturePartition",
    "Piece",
    "Standardisation",
    "StandardisedTarget",
    "StudentPartition",
    "Witness",
    "Gaussian",
    "State",
    "Trajectory",
    "ChartedRuns",
    "ElboByLevel",
    "Noisy",
    "Samples",
    "LossMetrics",
    "Round",
    "RunReport",
    "SVIMetrics",
    "Seconds",
    "Stop",
    "Training",
    "TrajectoryMetrics",
    "BackwardRuns",
    "Calibration",
    "Verdict",
    "Posterior",
    "AmortisedPosterior",
    "BridgeVI",
    "PathMetropolis",
    "PosteriorDistribution",
    "Comparison",
    "Costs",
    "LeftOut",
    "ModelComparison",
    "NutsRun",
    "ReliabilityWarning",
)
"""Classes whose objects this package makes and hands out."""

PASSED_ON = ("args", "kwargs", "settings")
"""Arguments of the user's model, and settings of another door."""

PASSED_ON_BY = {("training.fit", "data")}
"""What goes to a function of the user as it is."""


def public() -> Iterator[tuple[str, Any]]:
    """Every public function, constructor and method, by its name below `numpyro_bridge`."""
    seen = set()
    for namespace in NAMESPACES:
        prefix = namespace.__name__.removeprefix("numpyro_bridge").removeprefix(".")
        for name in namespace.__all__:
            value = getattr(namespace, name)
            if isinstance(value, ModuleType) or not callable(value) or id(value) in seen:
                continue
            seen.add(id(value))
            full = f"{prefix}.{name}" if prefix else name
            if not isinstance(value, type):
                if inspect.isfunction(inspect.unwrap(value)):
                    yield full, value
                continue
            yield full, value
            yield from ((f"{full}.{method}", function) for method, function in _methods(value))


def _methods(owner: type) -> Iterator[tuple[str, Any]]:
    for name in dir(owner):
        definition = next((base for base in owner.mro() if name in vars(base)), object)
        value = getattr(owner, name)
        is_method = inspect.isfunction(value) or inspect.ismethod(value)
        ours = definition.__module__.startswith("numpyro_bridge")
        if not name.startswith("_") and is_method and ours:
            yield name, value


def arguments(name: str, function: Any) -> list[str]:
    """The names of the arguments that need a row; those that are passed on do not."""
    try:
        parameters = list(inspect.signature(function).parameters)
    except ValueError:  # an exception, whose signature is that of Python
        return []
    return [
        each
        for each in parameters
        if each != "self" and each not in PASSED_ON and (name, each) not in PASSED_ON_BY
    ]


def is_no_door(name: str, function: Any) -> bool:
    """Whether something public is a record, or is called by compiled code alone."""
    *_, owner, last = ["", *name.split(".")]
    if name in MATHEMATICS or f"{owner}.{last}" in MATHEMATICS or last in MATHEMATICS:
        return True
    if isinstance(function, type):
        return last in RECORDS or inspect.isabstract(function) or last.startswith("Abstract")
    is_method = owner[:1].isupper()
    if not is_method:
        return False
    by_interface = any(hasattr(interface, last) for interface in INTERFACES)
    return by_interface or owner in RECORDS or last in METHODS_OF_SAMPLERS
