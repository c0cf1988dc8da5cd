"""A bridge as a guide for NumPyro's SVI, and the losses that train it."""

from numpyro_bridge.infer.svi.auto_bridge import AutoBridge
from numpyro_bridge.infer.svi.losses import TraceLogVariance, TraceObjective, TraceReverseKLLD

__all__ = ["AutoBridge", "TraceLogVariance", "TraceObjective", "TraceReverseKLLD"]
