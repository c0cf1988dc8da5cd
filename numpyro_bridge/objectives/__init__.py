"""Losses over trajectories, which differ in what they ask of the log weights."""

from numpyro_bridge.objectives.curricula import (
    AbstractCurriculum,
    ReplayBuffer,
    Tempering,
    replayed,
)
from numpyro_bridge.objectives.forward_kl import forward_kl, forward_kl_from_draws
from numpyro_bridge.objectives.log_variance import log_variance
from numpyro_bridge.objectives.mixed import mixed
from numpyro_bridge.objectives.over_charts import ChartedRuns, OverCharts
from numpyro_bridge.objectives.reverse_kl import reverse_kl
from numpyro_bridge.objectives.reverse_kl_ld import reverse_kl_ld
from numpyro_bridge.objectives.reverse_kl_path import reverse_kl_path
from numpyro_bridge.objectives.sampling import on_policy, widened
from numpyro_bridge.objectives.sub_trajectory_balance import (
    WithLogFlow,
    sub_trajectory_balance,
    with_log_flow,
)
from numpyro_bridge.objectives.trajectory_balance import (
    WithLogEvidence,
    trajectory_balance,
    with_log_evidence,
)

__all__ = [
    "AbstractCurriculum",
    "ChartedRuns",
    "OverCharts",
    "ReplayBuffer",
    "Tempering",
    "WithLogEvidence",
    "WithLogFlow",
    "forward_kl",
    "forward_kl_from_draws",
    "log_variance",
    "mixed",
    "on_policy",
    "replayed",
    "reverse_kl",
    "reverse_kl_ld",
    "reverse_kl_path",
    "sub_trajectory_balance",
    "trajectory_balance",
    "widened",
    "with_log_evidence",
    "with_log_flow",
]
