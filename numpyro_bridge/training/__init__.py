"""Training: one compiled loop for any module and any loss, with checkpoints."""

from numpyro_bridge.training.loop import fit
from numpyro_bridge.training.metrics import LossMetrics, SVIMetrics, TrajectoryMetrics
from numpyro_bridge.training.optimizer import bridge_optimizer
from numpyro_bridge.training.report import Round, RunReport, Seconds
from numpyro_bridge.training.training import Stop, Training

__all__ = [
    "LossMetrics",
    "Round",
    "RunReport",
    "SVIMetrics",
    "Seconds",
    "Stop",
    "Training",
    "TrajectoryMetrics",
    "bridge_optimizer",
    "fit",
]
