"""Amortised inference: one network for the posteriors of all data that a model may make."""

from numpyro_bridge.infer.amortise.learn import learn_amortised
from numpyro_bridge.infer.amortise.posterior import AmortisedPosterior, load_amortised

__all__ = [
    "AmortisedPosterior",
    "learn_amortised",
    "load_amortised",
]
