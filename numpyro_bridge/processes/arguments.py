"""A check of what every constructor of a process is given."""

from typing import Any

from numpyro_bridge._core.checks import MOST_STEPS, check_count, check_key, check_positive


def check_constructor(rng_key: Any, dim: Any, num_steps: Any = 1, **scales: Any) -> int:
    """The number of steps; a ValueError where no process can be made of what was given.

    Args:
        rng_key: A JAX key.
        dim: Number of dimensions.
        num_steps: Number of steps.
        **scales: Settings that have to be positive, by name.
    """
    check_key(rng_key)
    check_count("dim", dim, 1, MOST_STEPS)
    for name, scale in scales.items():
        check_positive(name, scale)
    return check_count("num_steps", num_steps, 1, MOST_STEPS)
