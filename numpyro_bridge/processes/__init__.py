"""Samplers, each a pair of Markov chains in a file of its own, and the parts they are made of."""

from numpyro_bridge.processes.annealed import AnnealedLangevin
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.base import (
    AbstractBridge,
    AbstractDenoising,
    AbstractProcess,
    AbstractWrapper,
    State,
)
from numpyro_bridge.processes.cmcd import CMCD
from numpyro_bridge.processes.controls import AbstractControl, ScoreInformedControl
from numpyro_bridge.processes.dbs import DBS
from numpyro_bridge.processes.dds import DDS
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.direct import Direct
from numpyro_bridge.processes.dis import DIS
from numpyro_bridge.processes.initial import (
    AbstractInitialDistribution,
    InitialMixture,
    InitialNormal,
)
from numpyro_bridge.processes.initial_prior import InitialPrior
from numpyro_bridge.processes.integrators import BAOAB, OBAB, OBABO, EulerMaruyama
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.processes.mcd import MCD
from numpyro_bridge.processes.parts import AbstractPart
from numpyro_bridge.processes.pis import PIS
from numpyro_bridge.processes.underdamped import (
    LDVI,
    UHA,
    UnderdampedCMCD,
    UnderdampedDBS,
    UnderdampedDIS,
    UnderdampedScales,
)

__all__ = [
    "BAOAB",
    "CMCD",
    "DBS",
    "DDS",
    "DIS",
    "LDVI",
    "MCD",
    "OBAB",
    "OBABO",
    "PIS",
    "UHA",
    "AbstractBridge",
    "AbstractControl",
    "AbstractDenoising",
    "AbstractInitialDistribution",
    "AbstractKernel",
    "AbstractPart",
    "AbstractProcess",
    "AbstractWrapper",
    "AnnealedLangevin",
    "AnnealingSchedule",
    "Diffusion",
    "Direct",
    "EulerMaruyama",
    "Gaussian",
    "InitialMixture",
    "InitialNormal",
    "InitialPrior",
    "ScoreInformedControl",
    "State",
    "UnderdampedCMCD",
    "UnderdampedDBS",
    "UnderdampedDIS",
    "UnderdampedScales",
]
