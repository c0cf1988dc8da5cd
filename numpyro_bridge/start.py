"""Make a process for a standardised target: where several modes were seen, it starts from all."""

import inspect
from collections.abc import Callable

import jax

from numpyro_bridge._typing import RNGKey
from numpyro_bridge.affine import AbstractAffineMap
from numpyro_bridge.initial_laws import MixtureLaw
from numpyro_bridge.modes import Modes
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.standardise import Standardisation


def make_process(
    process: Callable[..., AbstractProcess],
    rng_key: RNGKey,
    dim: int,
    standardisation: Standardisation,
) -> AbstractProcess:
    """Call the constructor; where several modes were seen and it can, start from all of them."""
    parameter = inspect.signature(process).parameters.get("initial_law")
    takes_law = parameter is not None and parameter.default is None  # and none is bound to it
    modes, map = standardisation.modes, standardisation.map
    if modes is None or not takes_law or not isinstance(map, AbstractAffineMap):
        return process(rng_key, dim)
    law = law_over_modes(modes, map)
    return process(rng_key, dim, initial_law=law)


def law_over_modes(modes: Modes, map: AbstractAffineMap) -> MixtureLaw:
    """A mixture of normal laws, one a mode, in standardised coordinates."""
    laws, log_mass, _ = modes
    means = jax.vmap(map.inverse)(laws.location)
    columns = jax.vmap(jax.vmap(map.solve, in_axes=1, out_axes=1))
    return MixtureLaw(log_mass - jax.nn.logsumexp(log_mass), means, columns(laws.factor))
