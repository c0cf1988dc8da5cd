"""Make a process for a standardised target: where several modes were seen, it starts from all."""

import inspect
from collections.abc import Callable

import jax

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.affine import AbstractAffineMap
from numpyro_bridge.atlas.modes import Modes
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.processes.initial import InitialMixture


def make_process(
    process: Callable[..., AbstractProcess],
    rng_key: RNGKey,
    dim: int,
    standardisation: Standardisation,
) -> AbstractProcess:
    """Call the constructor; where several modes were seen and it can, start from all of them."""
    parameter = inspect.signature(process).parameters.get("initial")
    takes_initial = parameter is not None and parameter.default is None  # and none is bound to it
    modes, map = standardisation.modes, standardisation.map
    if modes is None or not takes_initial or not isinstance(map, AbstractAffineMap):
        return process(rng_key, dim)
    law = mixture_over_modes(modes, map)
    return process(rng_key, dim, initial=law)


def mixture_over_modes(modes: Modes, map: AbstractAffineMap) -> InitialMixture:
    """A mixture of normal laws, one a mode, in standardised coordinates."""
    laws, log_mass, _ = modes
    means = jax.vmap(map.inverse)(laws.location)
    columns = jax.vmap(jax.vmap(map.solve, in_axes=1, out_axes=1))
    return InitialMixture(log_mass - jax.nn.logsumexp(log_mass), means, columns(laws.factor))
