"""How much memory a batch may take, which large models and many draws are divided by."""

import math

from numpyro_bridge._core.checks import check_positive

_limit = 500_000_000


def set_memory_limit(num_bytes: float | int) -> None:
    """Set how many bytes a batch of evaluations, or a group of results, may take; 5e8 by default.

    >>> nb.set_memory_limit(5e8)

    Batches that would take more are divided, and a group of an ArviZ object that would take more is
    left out, with a warning. The peak of a process is higher: the data, what is kept of the draws,
    and some hundred megabytes for compiled programs come on top. Set it before a sampler runs: a
    target keeps the limit that was in force when it was made, and only the size of batches of draws
    follows a later one. Processes that do a run together need the same limit.

    Args:
        num_bytes: The limit, such as `2e9` for two gigabytes.

    Raises:
        ValueError: if it is not a positive number.
    """
    global _limit
    _limit = math.ceil(check_positive("num_bytes", num_bytes, "2e9"))


def memory_limit() -> int:
    """The limit in force, in bytes."""
    return _limit


def most_within_memory(num_bytes_each: int) -> int:
    """How many evaluations a batch may have, at least one."""
    return max(1, _limit // max(1, num_bytes_each))


def in_words(num_bytes: int) -> str:
    """A size in gigabytes, or in megabytes."""
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.0f} MB"
