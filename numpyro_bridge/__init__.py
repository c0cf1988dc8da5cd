"""Diffusion bridges for NumPyro models: posterior draws, evidence and honest diagnostics.

The folders are the way of the data: a `target`, an `atlas` of where it is, `processes` that travel
there, their `trajectories`, `objectives` to train by, `diffusion` models learned from draws,
`training`, `draws` and what their weights say, the doors in `infer`, and what to `compare` with.
"""

from importlib.metadata import version

# First, since JAX reads its flags when it first runs something.
import numpyro_bridge._core.xla_flags  # noqa: F401  # isort: skip
import numpyro_bridge._core.matmul_precision  # noqa: F401  # isort: skip

# Then NumPyro: ArviZ 1.x, if it is imported first, makes it a lazy module, of which a submodule
# cannot be the first thing to be loaded.
import numpyro  # noqa: F401

from numpyro_bridge import (
    atlas,
    compare,
    diffusion,
    draws,
    infer,
    objectives,
    processes,
    target,
    training,
    trajectories,
)
from numpyro_bridge._core.memory import set_memory_limit
from numpyro_bridge.atlas import no_standardisation, standardise
from numpyro_bridge.compare import calibrate, compare_models, compare_with_nuts
from numpyro_bridge.diffusion import diffusion_elbo, flow_matching
from numpyro_bridge.draws import Draws, ReliabilityWarning, plots, to_inference_data
from numpyro_bridge.infer import (
    AutoBridge,
    BridgeKernel,
    BridgeSampler,
    DiffusionSampler,
    Posterior,
    TraceLogVariance,
    TraceObjective,
    TraceReverseKLLD,
    as_blackjax,
    load,
    load_amortised,
    refit,
)
from numpyro_bridge.objectives import (
    ReplayBuffer,
    Tempering,
    forward_kl,
    forward_kl_from_draws,
    log_variance,
    mixed,
    reverse_kl,
    reverse_kl_ld,
    reverse_kl_path,
    sub_trajectory_balance,
    trajectory_balance,
)
from numpyro_bridge.processes import (
    CMCD,
    DBS,
    DDS,
    DIS,
    LDVI,
    MCD,
    PIS,
    UHA,
    AnnealedLangevin,
    UnderdampedCMCD,
    UnderdampedDBS,
    UnderdampedDIS,
)
from numpyro_bridge.target import target_from_log_density, target_from_model
from numpyro_bridge.training import bridge_optimizer

__version__ = version("numpyro-bridge")

__all__ = [
    "CMCD",
    "DBS",
    "DDS",
    "DIS",
    "LDVI",
    "MCD",
    "PIS",
    "UHA",
    "AnnealedLangevin",
    "AutoBridge",
    "BridgeKernel",
    "BridgeSampler",
    "DiffusionSampler",
    "Draws",
    "Posterior",
    "ReliabilityWarning",
    "ReplayBuffer",
    "Tempering",
    "TraceLogVariance",
    "TraceObjective",
    "TraceReverseKLLD",
    "UnderdampedCMCD",
    "UnderdampedDBS",
    "UnderdampedDIS",
    "as_blackjax",
    "atlas",
    "bridge_optimizer",
    "calibrate",
    "compare",
    "compare_models",
    "compare_with_nuts",
    "diffusion",
    "diffusion_elbo",
    "draws",
    "flow_matching",
    "forward_kl",
    "forward_kl_from_draws",
    "infer",
    "load",
    "load_amortised",
    "log_variance",
    "mixed",
    "no_standardisation",
    "objectives",
    "plots",
    "processes",
    "refit",
    "reverse_kl",
    "reverse_kl_ld",
    "reverse_kl_path",
    "set_memory_limit",
    "standardise",
    "sub_trajectory_balance",
    "target",
    "target_from_log_density",
    "target_from_model",
    "to_inference_data",
    "training",
    "trajectories",
    "trajectory_balance",
]
