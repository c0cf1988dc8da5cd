"""What every loss over trajectories is: its type, and the check of its batch size."""

from collections.abc import Callable

from numpyro_bridge._core.types import Scalar
from numpyro_bridge.trajectories.trajectory import Trajectory

Objective = Callable[..., tuple[Scalar, Trajectory]]
"""A loss: `(rng_key, process, target, *, num_trajectories, ...)` to its value and trajectories."""


def check_batch(name: str, num_trajectories: int) -> None:
    """Raise a ValueError where a loss that compares trajectories is given a single one."""
    if num_trajectories < 2:
        raise ValueError(
            f"{name} compares trajectories with each other: num_trajectories must be at least 2, "
            f"got {num_trajectories}"
        )
