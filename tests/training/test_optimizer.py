"""The default optimiser: an array has the learning rate of the type of its part."""

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge.objectives.log_evidence import LogEvidence
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.controls import AbstractControl
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import AbstractInitialDistribution, InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from numpyro_bridge.training.optimizer import bridge_optimizer, parameter_kinds


class OwnControl(AbstractControl):
    """A linear drift."""

    weight: jax.Array

    def __call__(self, time, inputs, score):
        return self.weight @ inputs


class OwnInitial(AbstractInitialDistribution):
    """A normal distribution of unit variance."""

    mean: jax.Array

    def kernel(self, target):
        return Gaussian(self.mean, jnp.ones_like(self.mean), target)

    def score(self, point):
        return self.mean - point.position


class OwnSampler(eqx.Module):
    """The parts of a sampler, in fields whose names tell nothing, and an array in no part."""

    first: OwnInitial
    second: InitialNormal
    third: tuple[Diffusion, UnderdampedScales]
    fourth: dict[str, AnnealingSchedule]
    fifth: OwnControl
    sixth: LogEvidence
    diffusion: jax.Array


def own_sampler() -> OwnSampler:
    return OwnSampler(
        OwnInitial(jnp.zeros(2)),
        InitialNormal(2),
        (Diffusion(3, 2, 0.5), UnderdampedScales(3, 2, 0.5, 1.0)),
        {"path": AnnealingSchedule(3)},
        OwnControl(jnp.zeros((2, 2))),
        LogEvidence(-1.0),
        jnp.zeros(2),
    )


def test_arrays_are_labelled_by_the_types_of_their_parts_and_not_by_names():
    sampler = own_sampler()
    kinds = parameter_kinds(sampler)
    assert jax.tree.structure(kinds) == jax.tree.structure(sampler)
    assert jax.tree.leaves(kinds.first) == ["diffusion"]
    assert jax.tree.leaves(kinds.second) == ["diffusion"] * 2
    assert jax.tree.leaves(kinds.third) == ["diffusion"] * 4
    assert jax.tree.leaves(kinds.fourth) == ["annealing"]
    assert jax.tree.leaves(kinds.fifth) == ["control"]
    assert jax.tree.leaves(kinds.sixth) == ["log_evidence"]
    assert kinds.diffusion == "control"


def test_the_same_rates_give_the_same_optimiser():
    assert bridge_optimizer(control=1e-2) is bridge_optimizer(control=1e-2)
    assert bridge_optimizer(control=1e-2) is not bridge_optimizer(control=2e-2)
