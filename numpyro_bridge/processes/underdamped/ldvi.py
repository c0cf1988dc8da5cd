"""Langevin diffusion variational inference: momentum, and a learned way back."""

import equinox as eqx
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.controls import AbstractControl, MakesControl, ScoreInformedControl
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.processes.integrators import AbstractIntegrator
from numpyro_bridge.processes.underdamped.base import AbstractAnnealedForce, chosen_or_obabo
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from numpyro_bridge.target import Point


class LDVI(AbstractAnnealedForce):
    """The forward chain of `UHA`, with a learned control in the backward chain.

    The control changes the weights but not the draws. It is a baseline between `UHA`, which learns
    no control, and `UnderdampedCMCD`, whose control acts on both chains. Arguments and errors are
    those of `UnderdampedCMCD`.

    Reference: Geffner and Domke (2023), arXiv:2208.07743.
    """

    annealing: AnnealingSchedule
    control: AbstractControl
    initial: AbstractInitialDistribution
    scales: UnderdampedScales
    integrator: AbstractIntegrator
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 64,
        step_size: float = 0.25,
        friction: float = 1.0,
        integrator: AbstractIntegrator | None = None,
        initial: AbstractInitialDistribution | None = None,
        control: MakesControl = ScoreInformedControl,
    ):
        self.scales = UnderdampedScales(num_steps, dim, step_size, friction)
        self.annealing = AnnealingSchedule(num_steps)
        self.control = control(rng_key, dim, num_inputs=2 * dim)
        self.initial = chosen_or_normal(initial, dim)
        self.integrator = chosen_or_obabo(integrator)
        self.num_steps = num_steps

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return self._evaluated(self.control, step, point)
