"""The trajectory: states along a bridge and their log densities under the two chains."""

from typing import NamedTuple

from jaxtyping import Array, Float

from numpyro_bridge._core.types import Scalar
from numpyro_bridge.target import Point


class Trajectory(NamedTuple):
    """States along the bridge and the log densities of the two chains over them.

    >>> runs = nb.trajectories.simulate_many(key, process, target, 8)
    >>> runs.states.position.shape, runs.log_weight.shape
    ((8, 5, 2), (8,))

    `E_forward[exp(log_weight)]` is the evidence, at any number of steps and any parameters.
    """

    states: Point
    """One for each of the steps 0 … num_steps, along the leading axis."""
    log_forward: Scalar
    """Log density of the states under the initial distribution and the forward kernels."""
    log_backward: Scalar
    """Log density of the states under the target, unnormalised, and the backward kernels."""

    @property
    def log_weight(self) -> Float[Array, "..."]:
        """Log importance weight of the whole trajectory, in nats."""
        return self.log_backward - self.log_forward
