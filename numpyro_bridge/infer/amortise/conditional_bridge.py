"""ConditionalBridge: the affine map and the process of a posterior, as functions of the data."""

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
    """A normal distribution given the data, and a denoiser of the posterior in its coordinates.

    Args:
        scale: Turns flattened data into a context.
        unit_map: From positions that have unit scale under the prior to those of the model.
        normal: The normal distribution of positions of unit scale, given a context.
        denoiser: A denoiser of positions in the coordinates in which that normal distribution is
            standard, given a context.
    """

    scale: ContextScale
    unit_map: AbstractAffineMap
    normal: ConditionalNormal
    denoiser: Denoiser

    def map(self, values: Context) -> DenseMap:
        """The map from the denoiser's coordinates to the model's, given flattened data."""
        unit = self.normal.map(self.scale(values))
        columns = [self.unit_map.multiply(column) for column in unit.factor.T]
        return DenseMap(self.unit_map(unit.location), jnp.stack(columns, axis=1))

    def target(self, target: ModelTarget, data: Data, values: Context) -> StandardisedTarget:
        """The posterior given the data, in the coordinates of the denoiser.

        Args:
            target: A target made by `target_of_data`.
            data: Values of the observed sites.
            values: The same data, flattened.
        """
        return StandardisedTarget(with_data(target, data), self.map(values))

    def process(self, values: Context, num_steps: int) -> DenoisingProcess:
        """The process that samples the posterior given flattened data, in the same coordinates."""
        bound = in_context(self.denoiser, self.scale(values))
        return DenoisingProcess(bound, self.normal.dim, num_steps=num_steps, schedule=VPCosine())
