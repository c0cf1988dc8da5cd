"""Inference algorithms, in the style of NumPyro and BlackJAX."""

from numpyro_bridge.infer.amortise import AmortisedPosterior, load_amortised
from numpyro_bridge.infer.blackjax import BridgeVI, PathMetropolis, as_blackjax, path_metropolis
from numpyro_bridge.infer.bridge_kernel import BridgeKernel
from numpyro_bridge.infer.bridge_sampler import BridgeSampler
from numpyro_bridge.infer.diffusion_sampler import DiffusionSampler
from numpyro_bridge.infer.distribution import PosteriorDistribution
from numpyro_bridge.infer.load import load
from numpyro_bridge.infer.many_posteriors import ManyPosteriors
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.refit import refit
from numpyro_bridge.infer.svi import (
    AutoBridge,
    TraceLogVariance,
    TraceObjective,
    TraceReverseKLLD,
)

__all__ = [
    "AmortisedPosterior",
    "AutoBridge",
    "BridgeKernel",
    "BridgeSampler",
    "BridgeVI",
    "DiffusionSampler",
    "ManyPosteriors",
    "PathMetropolis",
    "Posterior",
    "PosteriorDistribution",
    "TraceLogVariance",
    "TraceObjective",
    "TraceReverseKLLD",
    "as_blackjax",
    "load",
    "load_amortised",
    "path_metropolis",
    "refit",
]
