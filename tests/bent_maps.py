"""A map that bends, for tests of maps and of their fits."""

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge.atlas.coupling import Coupling, CouplingMap
from numpyro_bridge.atlas.maps import DenseMap, lower_factor
from numpyro_bridge.atlas.radial import Radial


@eqx.filter_jit
def compiled(function, *arguments):
    """The value of a method, as one compiled program instead of one for each operation."""
    return function(*arguments)


def random_map(dim: int = 5, lead: int = 2) -> CouplingMap:
    """A map that bends a lot, in all its parts."""
    keys = jax.random.split(jax.random.key(0), 5)
    coupling = Coupling(keys[0], dim, lead)
    leaves, structure = jax.tree.flatten(coupling)
    spread = [0.4 * jax.random.normal(keys[1], (999,))[: leaf.size] for leaf in leaves]
    leaves = [leaf + noise.reshape(leaf.shape) for leaf, noise in zip(leaves, spread, strict=True)]
    rotation, _ = jnp.linalg.qr(jax.random.normal(keys[2], (dim, dim)))
    factor = lower_factor(jax.random.normal(keys[3], (dim, dim + 2)))
    affine = DenseMap(jax.random.normal(keys[4], (dim,)), factor)
    spread_out = jax.tree.unflatten(structure, leaves)
    spread_out = eqx.tree_at(lambda c: c.leading, spread_out, coupling.leading)
    spread_out = eqx.tree_at(
        lambda c: c.shape.heaviness, spread_out, replace_fn=lambda h: 0.1 * jnp.abs(h)
    )
    return CouplingMap(affine, rotation, spread_out, Radial(jnp.asarray(0.1)))
