"""Samplers: each a pair of Markov chains, one paper a file."""

from numpyro_bridge.processes.annealed import AnnealedLangevin
from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.processes.cmcd import CMCD
from numpyro_bridge.processes.dbs import DBS
from numpyro_bridge.processes.dds import DDS
from numpyro_bridge.processes.denoising import DenoisingProcess
from numpyro_bridge.processes.dis import DIS
from numpyro_bridge.processes.mcd import MCD
from numpyro_bridge.processes.pis import PIS
from numpyro_bridge.processes.underdamped import (
    LDVI,
    UHA,
    UnderdampedCMCD,
    UnderdampedDBS,
    UnderdampedDIS,
)

__all__ = [
    "CMCD",
    "DBS",
    "DDS",
    "DIS",
    "LDVI",
    "MCD",
    "PIS",
    "UHA",
    "AbstractProcess",
    "AnnealedLangevin",
    "DenoisingProcess",
    "State",
    "UnderdampedCMCD",
    "UnderdampedDBS",
    "UnderdampedDIS",
]
