"""A flag without which JAX before 0.11.1 can wait for itself for ever on few cores.

A batched matrix factorisation on the CPU waits for tasks that it gives to the workers of XLA, one
for each core, and it runs on a worker itself. As many of them at once as there are workers wait for
each other: a model with two covariance matrices is enough on two cores. Scheduled to save memory
instead of to run side by side, they come one after the other.
"""

import os
import warnings
from importlib.metadata import version

FIXED_IN = (0, 11, 1)
"""The version of JAX's compiled part whose factorisations wait for nobody."""

FEW_CORES = 4
"""More factorisations at once are not to be expected, and the flag costs some speed."""

FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"


def avoid_hang() -> None:
    """Set the flag where it is needed and nobody has set it; warn if it is too late for that."""
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG in flags or not can_hang(version("jaxlib"), num_cores()):
        return
    if _jax_has_started():
        warnings.warn(
            f"with {num_cores()} cores JAX {version('jaxlib')} can hang in models with several "
            "covariance matrices, and the flag that avoids it cannot be set any more, because JAX "
            "has run something already: import numpyro_bridge before that, or start Python with "
            f"XLA_FLAGS={FLAG}=false, or update JAX to 0.11.1 (from Python 3.12 on)",
            stacklevel=4,  # the import statement of the user
        )
        return
    os.environ["XLA_FLAGS"] = f"{flags} {FLAG}=false".strip()


def can_hang(jaxlib_version: str, num_cores: int) -> bool:
    """Whether factorisations of this version can occupy all workers."""
    release = tuple(int(part) for part in jaxlib_version.split(".")[:3])
    return release < FIXED_IN and num_cores <= FEW_CORES


def num_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _jax_has_started() -> bool:
    # Private, but only asked of releases that will not change any more.
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


avoid_hang()
