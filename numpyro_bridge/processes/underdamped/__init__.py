"""Samplers whose states have a momentum."""

from numpyro_bridge.processes.underdamped.cmcd import UnderdampedCMCD
from numpyro_bridge.processes.underdamped.dbs import UnderdampedDBS
from numpyro_bridge.processes.underdamped.dis import UnderdampedDIS
from numpyro_bridge.processes.underdamped.ldvi import LDVI
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from numpyro_bridge.processes.underdamped.uha import UHA

__all__ = [
    "LDVI",
    "UHA",
    "UnderdampedCMCD",
    "UnderdampedDBS",
    "UnderdampedDIS",
    "UnderdampedScales",
]
