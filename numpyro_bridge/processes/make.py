"""Make a process for a standardised target, started from all modes where several were seen."""

from collections.abc import Callable

import jax

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.maps import AbstractAffineMap
from numpyro_bridge.atlas.modes import Modes
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.processes.initial import InitialMixture


def make_process(
    process: Callable[..., AbstractProcess],
    rng_key: RNGKey,
    dim: int,
    standardisation: Standardisation,
) -> AbstractProcess:
    """Call the constructor; where several modes were seen, start from all if the process can."""
    made = process(rng_key, dim)
    modes, transform = standardisation.modes, standardisation.map
    if modes is None or not isinstance(transform, AbstractAffineMap):
        return made
    return made.starting_from(mixture_over_modes(modes, transform))


def mixture_over_modes(modes: Modes, transform: AbstractAffineMap) -> InitialMixture:
    """A mixture of normal distributions, one for each mode, in standardised coordinates."""
    normals, log_mass, _ = modes
    means = jax.vmap(transform.inverse)(normals.location)
    columns = jax.vmap(jax.vmap(transform.solve, in_axes=1, out_axes=1))
    return InitialMixture(log_mass - jax.nn.logsumexp(log_mass), means, columns(normals.factor))
