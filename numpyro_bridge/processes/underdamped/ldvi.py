"""Langevin diffusion variational inference: momentum, and a learned way back."""

from jaxtyping import Array, Int

from numpyro_bridge._core.types import Vector
from numpyro_bridge.processes.underdamped.base import AbstractControlledForce
from numpyro_bridge.target import Point


class LDVI(AbstractControlledForce):
    """`UHA` against a backward chain with a learned control.

    The control changes the weights and not the draws: a baseline between `UHA` and
    `UnderdampedCMCD`, which learns both chains. Arguments and errors are those of the latter.

    Reference: Geffner and Domke (2023), arXiv:2208.07743.
    """

    __init__ = AbstractControlledForce.__init__  # type checkers would make one of the fields

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return self._evaluated(self.control, step, point)
