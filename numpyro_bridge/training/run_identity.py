"""What identifies a training run, so that a checkpoint resumes no other run than its own."""

from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple

from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.keys import numbers_of_key
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target import Target, fingerprint
from numpyro_bridge.training.state import TrainingState
from numpyro_bridge.training.tree_summary import (
    Moments,
    are_close,
    class_names_of,
    moments_of,
    shapes_of,
)


class Run(NamedTuple):
    """What identifies a run, in values that JSON keeps exactly.

    A setting that changes no array, no density and no name, such as a learning rate, leaves no
    trace here.
    """

    exact: dict[str, list[Any]]
    """Values that have to be equal, each under the words that a message has for a difference."""
    measured: dict[str, Moments]
    """Values that may differ by rounding, under such words as well."""
    model: list[float]
    """Fingerprint of the target; empty where the data of the training are not a target."""


def run_of(
    rng_key: RNGKey,
    module: Any,
    state: TrainingState,
    loss: Callable[..., Any],
    data: Any,
    curriculum: Any,
    num_iterations: int,
) -> Run:
    """Identify the run that starts from these."""
    exact = {
        "another num_iterations": [num_iterations],
        "another process or network": class_names_of(module),
        "another loss": [name_of(loss)],
        "another curriculum": [repr(curriculum)],
        "another rng_key": [numbers_of_key(rng_key)],
        "other arrays in its state": shapes_of(state),
    }
    measured = {
        "other arrays in its loss": moments_of(loss),
        "another start": moments_of(module),
        "another data": moments_of(data),
    }
    model = fingerprint.fingerprint(data) if isinstance(data, Target) else []
    return Run(exact, measured, model)


def difference(saved: Run, now: Run) -> str | None:
    """Say how the run of a file differs from the present one; None where they are the same run."""
    for name, here in now.exact.items():
        for before, after in zip_longest(saved.exact[name], here):
            if before != after:
                return f"{name} (it has {before!r}, this run {after!r})"
    for name, here in now.measured.items():
        if not are_close(saved.measured[name], here):
            return name
    other = fingerprint.difference(saved.model, now.model)
    return other and f"another model ({other} when it was written)"
