"""ConditionalBridge: data in, and out come the affine map and the process of their posterior."""

import equinox as eqx
import jax.numpy as jnp

from numpyro_bridge.atlas.maps import AbstractAffineMap, DenseMap
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion.denoiser import Denoiser, in_context
from numpyro_bridge.diffusion.noise import VPCosine
from numpyro_bridge.diffusion.process import DenoisingProcess
from numpyro_bridge.infer.amortise.conditional_normal import ConditionalNormal
from numpyro_bridge.infer.amortise.context import Context, ContextScale
from numpyro_bridge.target import ModelTarget
from numpyro_bridge.target.simulation import Data, with_data


class ConditionalBridge(eqx.Module):
    """A normal law given the data, and a denoiser of what is left in its coordinates.

    Args:
        scale: Makes a context of flattened data.
        unit_map: From positions of unit scale under the prior to those of the model.
        law: The normal law of positions of unit scale given a context.
        denoiser: Of positions in the coordinates of that law, given a context.
    """

    scale: ContextScale
    unit_map: AbstractAffineMap
    law: ConditionalNormal
    denoiser: Denoiser

    def map(self, values: Context) -> DenseMap:
        """From the coordinates of the denoiser to those of the model, given flattened data."""
        unit = self.law.map(self.scale(values))
        columns = [self.unit_map.multiply(column) for column in unit.factor.T]
        return DenseMap(self.unit_map(unit.location), jnp.stack(columns, axis=1))

    def target(self, target: ModelTarget, data: Data, values: Context) -> StandardisedTarget:
        """The posterior of data in the coordinates of the denoiser.

        Args:
            target: Made by `target_of_data`.
            data: Values of the observed sites.
            values: The same, flattened.
        """
        return StandardisedTarget(with_data(target, data), self.map(values))

    def process(self, values: Context, num_steps: int) -> DenoisingProcess:
        """The bridge to the posterior of flattened data, in the coordinates of `map`."""
        bound = in_context(self.denoiser, self.scale(values))
        return DenoisingProcess(bound, self.law.dim, num_steps=num_steps, schedule=VPCosine())
