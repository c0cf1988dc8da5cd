"""Langevin diffusion variational inference: momentum, and a learned way back."""

from jaxtyping import Array, Int

from numpyro_bridge._core.types import Vector
from numpyro_bridge.processes.underdamped.base import AbstractControlledForce
from numpyro_bridge.target import Point

_constructor = AbstractControlledForce.__init__


class LDVI(AbstractControlledForce):
    """The forward chain of `UHA`, with a learned control in the backward chain.

    >>> sampler = nb.BridgeSampler(model, process=nb.LDVI)

    The control changes the weights but not the draws. It is a baseline between `UHA`, which learns
    no control, and `UnderdampedCMCD`, whose control acts on both chains. Arguments and errors are
    those of `UnderdampedCMCD`.

    Reference: Geffner and Domke (2023), arXiv:2208.07743.
    """

    __init__ = _constructor  # type checkers would make one of the fields

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return self._evaluated(self.control, step, point)
