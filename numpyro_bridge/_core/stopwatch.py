"""A stopwatch that tells compiling from running, by what JAX reports of its own work."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax import monitoring


@dataclass
class Watch:
    """The seconds of a block, divided into those of compiling and all others.

    Compiling means all that JAX reports as tracing, lowering or compiling.
    """

    compiling: float = 0.0
    running: float = 0.0
    spans: list[tuple[float, float]] = field(default_factory=list)


@contextmanager
def stopwatch() -> Iterator[Watch]:
    """Measure a block of code; read the seconds after it has ended."""
    watch = Watch()

    def listen(event: str, start_time: float, end_time: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            watch.spans.append((start_time, end_time))

    monitoring.register_event_time_span_listener(listen)
    begin = time.perf_counter()
    try:
        yield watch
    finally:
        seconds = time.perf_counter() - begin
        monitoring.unregister_event_time_span_listener(listen)
        watch.compiling = min(_length_of_union(watch.spans), seconds)
        watch.running = seconds - watch.compiling


def _length_of_union(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one span; spans overlap, since callers and callees are traced."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
