"""Draws and what can be made of them: evidence, verdict, predictions, ArviZ objects, plots."""

from numpyro_bridge.draws import plots
from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.calibration import Calibration
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.draws.many_draws import ManyDraws
from numpyro_bridge.draws.verdict import ReliabilityWarning, Verdict

__all__ = [
    "BackwardRuns",
    "Calibration",
    "Draws",
    "ManyDraws",
    "ReliabilityWarning",
    "Verdict",
    "plots",
    "to_inference_data",
]
