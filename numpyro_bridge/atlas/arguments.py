"""A check of what every stage before a sampler is given."""

from typing import Any

from numpyro_bridge._core.checks import check_instance, check_key
from numpyro_bridge.target import Target


def check_stage(rng_key: Any, target: Any) -> None:
    """Raise a ValueError unless these are a key and a target."""
    check_key(rng_key)
    such_as = "nb.target_from_model(rng_key, model, x, y=y)"
    check_instance("target", target, Target, such_as)
