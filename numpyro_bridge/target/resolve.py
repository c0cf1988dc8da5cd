"""Make a target of what a sampler was given: a model, or a target already."""

from collections.abc import Callable
from typing import Any

from numpyro_bridge._core.keys import fold_in
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target import Target, target_from_model
from numpyro_bridge.target.relative import with_reference


def resolve_target(
    rng_key: RNGKey,
    model: Callable[..., Any] | Target,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Target:
    """The target of a model with these arguments, or the target itself, which takes none.

    Where its log densities are large, they are taken relative to a place near the top.

    Raises:
        ValueError: if a target is given arguments, or the model cannot be sampled.
    """
    if not isinstance(model, Target):
        target = target_from_model(rng_key, model, *args, **kwargs)
        return with_reference(fold_in(rng_key, 1), target)
    if args or kwargs:
        raise ValueError(
            "this sampler was made from a target, which holds its data already; call run(rng_key) "
            "without further arguments"
        )
    return with_reference(fold_in(rng_key, 1), model)
