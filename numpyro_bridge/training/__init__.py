"""Training: one compiled loop for any module and any loss, with checkpoints."""

from numpyro_bridge.training.loop import Training, fit
from numpyro_bridge.training.metrics import Metrics
from numpyro_bridge.training.optimizer import bridge_optimizer

__all__ = [
    "Metrics",
    "Training",
    "bridge_optimizer",
    "fit",
]
