"""Samplers by annealed Langevin dynamics with one control: what CMCD and MCD share."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.base import AbstractBridge
from numpyro_bridge.processes.controls import (
    AbstractControl,
    MakesControl,
    ScoreInformedControl,
    make_control,
)
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.target import Point


class LangevinControls(NamedTuple):
    """What such a sampler needs at a state: half the annealed score, and the learned drift."""

    langevin: Vector
    control: Vector


class AbstractControlledLangevin(AbstractBridge[LangevinControls]):
    """Langevin dynamics along a path of annealed densities, and one control.

    A subclass says which of the two chains the control steers, and how.
    """

    annealing: AnnealingSchedule
    control: AbstractControl
    diffusion: Diffusion
    initial: AbstractInitialDistribution
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        *,
        num_steps: int = 96,
        diffusion: float = 0.25,
        initial: AbstractInitialDistribution | None = None,
        control: MakesControl = ScoreInformedControl,
    ):
        num_steps = check_constructor(rng_key, dim, num_steps, diffusion=diffusion)
        self.diffusion = Diffusion(num_steps, dim, diffusion)
        self.annealing = AnnealingSchedule(num_steps)
        self.control = make_control(control, rng_key, dim)
        self.initial = chosen_or_normal(initial, dim)
        self.num_steps = num_steps

    def controls(self, step: Int[Array, ""], point: Point) -> LangevinControls:
        langevin = 0.5 * self.annealing.score(step, self.initial, point)
        control = self.control(step / self.num_steps, point.position, point.score)
        return LangevinControls(langevin, control)
