"""A check of the model that a sampler is given."""

from typing import Any

from numpyro_bridge._core.doors import check_unforked
from numpyro_bridge.target import Target


def check_model(model: Any, sampler: str) -> None:
    """Raise a ValueError unless this is a NumPyro model or a target.

    Args:
        model: What the sampler was given.
        sampler: The name of the sampler's class, for the message.

    Raises:
        RuntimeError: if JAX has started in the process that this one was forked from.
    """
    check_unforked(sampler)
    if not callable(model) and not isinstance(model, Target):
        raise ValueError(
            "model must be a NumPyro model, which is a function, or a target, got "
            f"{type(model).__name__}; for a log density write "
            f"nb.{sampler}(nb.target_from_log_density(fn, dim))"
        )
