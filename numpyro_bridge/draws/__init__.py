"""Draws and what their weights say: evidence, verdict, predictions, ArviZ objects, plots."""

from numpyro_bridge.draws import plots
from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.calibration import Calibration
from numpyro_bridge.draws.draws import Draws, ReliabilityWarning
from numpyro_bridge.draws.inference_data import to_inference_data

__all__ = [
    "BackwardRuns",
    "Calibration",
    "Draws",
    "ReliabilityWarning",
    "plots",
    "to_inference_data",
]
