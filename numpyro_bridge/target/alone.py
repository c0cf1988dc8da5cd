"""One model at a time: NumPyro keeps the effect handlers of all threads on a single stack."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_lock = threading.RLock()


def alone(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function that runs a model of NumPyro wait until no other thread is in such a function.

    A model is run by Python while its log density, its draws or its sites are traced. Compiled code
    does not wait. What the user runs of NumPyro in another thread at the same time does not know of
    this lock.
    """

    @wraps(function)
    def one_at_a_time(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with _lock:
            return function(*args, **kwargs)

    return one_at_a_time
