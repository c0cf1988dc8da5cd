"""Make a target of what a sampler was given: a model, or a target already."""

from collections.abc import Callable
from typing import Any

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target import Target, target_from_model


def resolve_target(
    rng_key: RNGKey, model: Callable[..., Any] | Target, args: tuple, kwargs: dict[str, Any]
) -> Target:
    """The target of a model with these arguments, or the target itself, which takes none.

    Raises:
        ValueError: if a target is given arguments, or the model cannot be sampled.
    """
    if not isinstance(model, Target):
        return target_from_model(rng_key, model, *args, **kwargs)
    if args or kwargs:
        raise ValueError(
            "this sampler was made from a target, which holds its data already; call run(rng_key) "
            "without further arguments"
        )
    return model
