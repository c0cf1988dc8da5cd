"""A check of what every run of two chains is given."""

from typing import Any

from numpyro_bridge._core.checks import check_instance, check_key
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target


def check_chains(rng_key: Any, process: Any, target: Any) -> None:
    """Raise a ValueError unless these are a key, a process and a target.

    Nothing is computed, so that compiled code pays for it only while it is traced.
    """
    check_key(rng_key)
    check_process_and_target(process, target)


def check_process_and_target(process: Any, target: Any) -> None:
    """Raise a ValueError unless these are a process and a target."""
    check_instance("process", process, AbstractProcess, "nb.CMCD(rng_key, target.dim)")
    such_as = "nb.target_from_model(rng_key, model, x, y=y)"
    check_instance("target", target, Target, such_as)
