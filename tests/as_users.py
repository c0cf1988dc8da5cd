"""Whole runs as users have them: without the type checker of the tests, in half the time."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import pytest


@contextmanager
def without_type_checks() -> Iterator[None]:
    """Check no types inside the block, however often the same functions are checked elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield
