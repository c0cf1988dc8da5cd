"""Underdamped time-reversed diffusion sampler."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.controls import (
    AbstractControl,
    MakesControl,
    ScoreInformedControl,
    make_control,
)
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.integrators import AbstractIntegrator
from numpyro_bridge.processes.underdamped.base import AbstractUnderdamped, chosen_or_obabo
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from numpyro_bridge.target import Point


class UnderdampedDIS(AbstractUnderdamped):
    """A noising Langevin diffusion with momentum, run backward by a learned control.

    >>> sampler = nb.BridgeSampler(model, process=nb.UnderdampedDIS)

    The force is the score of the initial distribution. The backward chain has no control: it is
    fixed and forgets where it came from. Where the target is the initial distribution, the bridge
    is exact without a control, to second order in the step. Arguments and errors are those of
    `UnderdampedCMCD`, without `initial`.

    Reference: Blessing, Berner, Richter and Neumann (2025), arXiv:2503.01006.
    """

    control: AbstractControl
    initial: InitialNormal
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
        control: MakesControl = ScoreInformedControl,
    ):
        scales = {"step_size": step_size, "friction": friction}
        num_steps = check_constructor(rng_key, dim, num_steps, **scales)
        self.scales = UnderdampedScales(num_steps, dim, step_size, friction)
        self.control = make_control(control, rng_key, dim, num_inputs=2 * dim)
        self.initial = InitialNormal(dim)
        self.integrator = chosen_or_obabo(integrator)
        self.num_steps = num_steps

    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        return self.initial.score(point)

    def force_parameters(self) -> list[Any]:
        return [self.initial]

    def forward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return self._evaluated(self.control, step, point)
