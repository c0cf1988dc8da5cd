"""Run what a process describes: forward, backward, or over given states."""

from numpyro_bridge.trajectories.rescore import rescore
from numpyro_bridge.trajectories.simulate import simulate, simulate_backward, simulate_many
from numpyro_bridge.trajectories.trajectory import Trajectory

__all__ = [
    "Trajectory",
    "rescore",
    "simulate",
    "simulate_backward",
    "simulate_many",
]
