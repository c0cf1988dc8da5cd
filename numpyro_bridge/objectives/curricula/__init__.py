"""Curricula: what a loss is shown as training goes on."""

from numpyro_bridge.objectives.curricula.base import AbstractCurriculum, Unchanged
from numpyro_bridge.objectives.curricula.replay import ReplayBuffer, replayed
from numpyro_bridge.objectives.curricula.tempering import Tempering

__all__ = ["AbstractCurriculum", "ReplayBuffer", "Tempering", "Unchanged", "replayed"]
