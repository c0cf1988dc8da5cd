"""A learned log evidence, with which the balance losses compare log weights."""

import jax.numpy as jnp

from numpyro_bridge._core.types import Scalar
from numpyro_bridge.processes.parts import AbstractPart


class LogEvidence(AbstractPart):
    """An estimate of the log evidence, in nats, that is learned with a sampler."""

    value: Scalar

    def __init__(self, value: float):
        self.value = jnp.asarray(value, jnp.result_type(float))
