"""Losses: each reads the log weights of trajectories in its own way."""

from numpyro_bridge.objectives.log_variance import log_variance
from numpyro_bridge.objectives.reverse_kl import reverse_kl
from numpyro_bridge.objectives.reverse_kl_ld import reverse_kl_ld

__all__ = ["log_variance", "reverse_kl", "reverse_kl_ld"]
