"""Underdamped diffusion bridge sampler."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.controls import (
    AbstractControl,
    MakesControl,
    ScoreInformedControl,
    make_control,
)
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.processes.integrators import AbstractIntegrator
from numpyro_bridge.processes.underdamped.base import AbstractUnderdamped, chosen_or_obabo
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from numpyro_bridge.target import Point


class UnderdampedDBS(AbstractUnderdamped):
    """Hamiltonian dynamics of the target with friction, and a control in each chain.

    >>> sampler = nb.BridgeSampler(model, process=nb.UnderdampedDBS)

    The force is the score of the target throughout. More flexible than `UnderdampedCMCD` and
    slower to train. Arguments and errors are those of that sampler; `control` is called once for
    each chain.

    Reference: Blessing, Berner, Richter and Neumann (2025), arXiv:2503.01006. Departs
    from it in the force, which is zero there.
    """

    forward_drift: AbstractControl
    backward_drift: AbstractControl
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
        scales = {"step_size": step_size, "friction": friction}
        num_steps = check_constructor(rng_key, dim, num_steps, **scales)
        forward_key, backward_key = jax.random.split(rng_key)
        self.scales = UnderdampedScales(num_steps, dim, step_size, friction)
        self.forward_drift = make_control(control, forward_key, dim, num_inputs=2 * dim)
        self.backward_drift = make_control(control, backward_key, dim, num_inputs=2 * dim)
        self.initial = chosen_or_normal(initial, dim)
        self.integrator = chosen_or_obabo(integrator)
        self.num_steps = num_steps

    def force(self, step: Int[Array, ""], point: Point) -> Vector:
        return point.score

    def force_parameters(self) -> list[Any]:
        return []

    def forward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return self._evaluated(self.forward_drift, step, point)

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return self._evaluated(self.backward_drift, step, point)
