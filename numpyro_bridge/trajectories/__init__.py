"""Run what a process describes: forward, backward, or over given states."""

from numpyro_bridge.trajectories.simulate import (
    Trajectory,
    rescore,
    simulate,
    simulate_backward,
    simulate_many,
)

__all__ = [
    "Trajectory",
    "rescore",
    "simulate",
    "simulate_backward",
    "simulate_many",
]
