"""Samplers: each a pair of Markov chains, one paper a file."""

from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.processes.cmcd import CMCD
from numpyro_bridge.processes.dbs import DBS

__all__ = ["CMCD", "DBS", "AbstractProcess", "State"]
