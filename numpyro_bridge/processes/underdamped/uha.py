"""Uncorrected Hamiltonian annealing: momentum without a network."""

import equinox as eqx

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.arguments import check_constructor
from numpyro_bridge.processes.initial import AbstractInitialDistribution, chosen_or_normal
from numpyro_bridge.processes.integrators import AbstractIntegrator
from numpyro_bridge.processes.underdamped.base import AbstractAnnealedForce, chosen_or_obabo
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales


class UHA(AbstractAnnealedForce):
    """Annealed importance sampling with Hamiltonian moves and partial renewal of momentum.

    >>> sampler = nb.BridgeSampler(model, process=partial(nb.UHA, num_steps=16))

    Untrained it is what `BridgeSampler` uses where a single chart does not suffice, and in many
    dimensions. `UnderdampedCMCD` is this sampler before its control is trained.
    Arguments and errors are those of `UnderdampedCMCD`, without a control.

    Reference: Geffner and Domke (2021), arXiv:2107.04150; Zhang, Hsu, Li, Finn and Grosse (2021),
    arXiv:2107.10211.
    """

    annealing: AnnealingSchedule
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
    ):
        scales = {"step_size": step_size, "friction": friction}
        num_steps = check_constructor(rng_key, dim, num_steps, **scales)
        self.scales = UnderdampedScales(num_steps, dim, step_size, friction)
        self.annealing = AnnealingSchedule(num_steps)
        self.initial = chosen_or_normal(initial, dim)
        self.integrator = chosen_or_obabo(integrator)
        self.num_steps = num_steps
