"""Diffusion bridges for NumPyro models: posterior draws, evidence and honest diagnostics."""

from importlib.metadata import version

# First, since JAX reads its flags when it first runs something.
import numpyro_bridge._xla_flags  # noqa: F401  # isort: skip

# Then NumPyro: ArviZ 1.x, if it is imported first, makes it a lazy module, of which a submodule
# cannot be the first thing to be loaded.
import numpyro  # noqa: F401

# In the order of the pipeline: a target, standardised; a process; trajectories; a loss; training;
# draws; and the doors to NumPyro and ArviZ.
from numpyro_bridge.target import (  # isort: skip
    LogDensityTarget,
    ModelTarget,
    Point,
    Target,
    target_from_log_density,
    target_from_model,
)
from numpyro_bridge.standardise import (  # isort: skip
    Standardisation,
    no_standardisation,
    standardise,
)
from numpyro_bridge.prior_law import PriorLaw  # isort: skip
from numpyro_bridge.integrators import BAOAB, OBAB, OBABO, EulerMaruyama  # isort: skip
from numpyro_bridge.samples import Samples  # isort: skip
from numpyro_bridge.denoiser import (  # isort: skip
    Denoiser,
    predicts_clean,
    predicts_flow,
    predicts_noise,
    predicts_velocity,
    untrained_denoiser,
)
from numpyro_bridge.processes import (  # isort: skip
    CMCD,
    DBS,
    DDS,
    DIS,
    LDVI,
    MCD,
    PIS,
    UHA,
    AbstractProcess,
    AnnealedLangevin,
    DenoisingProcess,
    UnderdampedCMCD,
    UnderdampedDBS,
    UnderdampedDIS,
)
from numpyro_bridge.trajectories import (  # isort: skip
    Trajectory,
    rescore,
    simulate,
    simulate_backward,
)
from numpyro_bridge.generation import generate  # isort: skip
from numpyro_bridge.objectives import (  # isort: skip
    ElboByLevel,
    diffusion_elbo,
    elbo_by_level,
    flow_matching,
    forward_kl,
    forward_kl_from_draws,
    log_variance,
    mixed,
    on_policy,
    reverse_kl,
    reverse_kl_ld,
    reverse_kl_path,
    sub_trajectory_balance,
    trajectory_balance,
    widened,
    with_log_evidence,
    with_log_flow,
)
from numpyro_bridge.curricula import ReplayBuffer, Tempering, replayed  # isort: skip
from numpyro_bridge.train import Training, fit  # isort: skip
from numpyro_bridge.backward import BackwardRuns  # isort: skip
from numpyro_bridge.draws import Draws, ReliabilityWarning  # isort: skip
from numpyro_bridge.inference_data import to_inference_data  # isort: skip
from numpyro_bridge.calibration import Calibration  # isort: skip
from numpyro_bridge.infer import (  # isort: skip
    AmortisedPosterior,
    AutoBridge,
    BridgeKernel,
    BridgeSampler,
    BridgeVI,
    DiffusionSampler,
    PathMetropolis,
    Posterior,
    PosteriorDistribution,
    TraceLogVariance,
    TraceObjective,
    TraceReverseKLLD,
    as_blackjax,
    bridge_optimizer,
    load,
    load_amortised,
    path_metropolis,
)
from numpyro_bridge.nuts import NutsRun, blackjax_nuts, numpyro_nuts  # isort: skip
from numpyro_bridge.model_comparison import ModelComparison, compare_models  # isort: skip
from numpyro_bridge.comparison import Comparison, compare_with_nuts  # isort: skip

__version__ = version("numpyro-bridge")

__all__ = [
    "BAOAB",
    "CMCD",
    "DBS",
    "DDS",
    "DIS",
    "LDVI",
    "MCD",
    "OBAB",
    "OBABO",
    "PIS",
    "UHA",
    "AbstractProcess",
    "AmortisedPosterior",
    "AnnealedLangevin",
    "AutoBridge",
    "BackwardRuns",
    "BridgeKernel",
    "BridgeSampler",
    "BridgeVI",
    "Calibration",
    "Comparison",
    "Denoiser",
    "DenoisingProcess",
    "DiffusionSampler",
    "Draws",
    "ElboByLevel",
    "EulerMaruyama",
    "LogDensityTarget",
    "ModelComparison",
    "ModelTarget",
    "NutsRun",
    "PathMetropolis",
    "Point",
    "Posterior",
    "PosteriorDistribution",
    "PriorLaw",
    "ReliabilityWarning",
    "ReplayBuffer",
    "Samples",
    "Standardisation",
    "Target",
    "Tempering",
    "TraceLogVariance",
    "TraceObjective",
    "TraceReverseKLLD",
    "Training",
    "Trajectory",
    "UnderdampedCMCD",
    "UnderdampedDBS",
    "UnderdampedDIS",
    "as_blackjax",
    "blackjax_nuts",
    "bridge_optimizer",
    "compare_models",
    "compare_with_nuts",
    "diffusion_elbo",
    "elbo_by_level",
    "fit",
    "flow_matching",
    "forward_kl",
    "forward_kl_from_draws",
    "generate",
    "load",
    "load_amortised",
    "log_variance",
    "mixed",
    "no_standardisation",
    "numpyro_nuts",
    "on_policy",
    "replayed",
    "predicts_clean",
    "predicts_flow",
    "predicts_noise",
    "predicts_velocity",
    "path_metropolis",
    "rescore",
    "reverse_kl",
    "reverse_kl_ld",
    "reverse_kl_path",
    "simulate",
    "simulate_backward",
    "standardise",
    "target_from_log_density",
    "target_from_model",
    "to_inference_data",
    "sub_trajectory_balance",
    "trajectory_balance",
    "untrained_denoiser",
    "widened",
    "with_log_evidence",
    "with_log_flow",
]
