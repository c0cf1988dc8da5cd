"""What every loss over trajectories is: its type, and the check of what it is given."""

from collections.abc import Callable
from typing import Any

from numpyro_bridge._core.checks import check_count, check_function
from numpyro_bridge._core.types import Scalar
from numpyro_bridge.trajectories.arguments import check_chains
from numpyro_bridge.trajectories.trajectory import Trajectory

Objective = Callable[..., tuple[Scalar, Trajectory]]
"""A loss: `(rng_key, process, target, *, num_trajectories, ...)` to its value and trajectories."""


FIXED = object()
"""In place of the origin of trajectories, where a loss has no choice."""


def check_request(
    rng_key: Any,
    process: Any,
    target: Any,
    num_trajectories: Any,
    sampling: Any = FIXED,
    *,
    compares: str = "",
) -> int:
    """The size of a batch; a ValueError where a loss cannot be estimated from what it is given.

    Args:
        rng_key: What the user gave for it, as for all arguments here.
        process: The two chains.
        target: The density.
        num_trajectories: The size of the batch.
        sampling: Where trajectories come from; left out by a loss that has no choice.
        compares: The name of a loss that compares trajectories, so that one does not suffice.
    """
    check_chains(rng_key, process, target)
    if sampling is not FIXED:
        check_function("sampling", sampling, "nb.objectives.on_policy")
    size = check_count("num_trajectories", num_trajectories, 1)
    if compares and size < 2:
        raise ValueError(
            f"{compares} compares trajectories with each other: num_trajectories must be at least "
            f"2, got {size}"
        )
    return size
