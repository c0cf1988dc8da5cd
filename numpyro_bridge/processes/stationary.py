"""Samplers that undo a noising process with a stationary distribution: what DDS and DIS share."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.base import AbstractDenoising, State
from numpyro_bridge.processes.controls import (
    AbstractControl,
    MakesControl,
    ScoreInformedControl,
    make_control,
)
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target


class AbstractStationary(AbstractDenoising):
    """A noising process that leaves its initial distribution alone, steered by one control.

    A subclass says how much noise each step handles and what one step of the noising process is.
    """

    control: AbstractControl
    diffusion: Diffusion
    initial: InitialNormal
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 96,
        diffusion: float = 0.25,
        control: MakesControl = ScoreInformedControl,
    ):
        num_steps = check_constructor(rng_key, dim, num_steps, diffusion=diffusion)
        self.diffusion = Diffusion(num_steps, dim, diffusion, self.rates(num_steps))
        self.control = make_control(control, rng_key, dim)
        self.initial = InitialNormal(dim)
        self.num_steps = num_steps

    @staticmethod
    @abc.abstractmethod
    def rates(num_steps: int) -> Float[Array, " steps"]:
        """How much of the noise each step handles at first, mean one."""

    @abc.abstractmethod
    def noised(self, step: Int[Array, ""], point: Point, target: Target) -> Gaussian:
        """One step of the noising process, which is the same in both directions."""

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        noised = self.noised(step, state.point, target)
        mean = noised.mean + noised.scale**2 * state.controls
        return eqx.tree_at(lambda kernel: kernel.mean, noised, mean)

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        return self.noised(step, state.point, target)
