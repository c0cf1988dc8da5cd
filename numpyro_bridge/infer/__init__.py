"""Inference algorithms in NumPyro's shape: a model in, draws out."""

from numpyro_bridge.infer.bridge_sampler import BridgeSampler
from numpyro_bridge.infer.diffusion_sampler import DiffusionSampler
from numpyro_bridge.infer.distribution import PosteriorDistribution
from numpyro_bridge.infer.optimizer import bridge_optimizer
from numpyro_bridge.infer.posterior import Posterior, load

__all__ = [
    "BridgeSampler",
    "DiffusionSampler",
    "Posterior",
    "PosteriorDistribution",
    "bridge_optimizer",
    "load",
]
