"""How much exploration the data allow: with many of them, every evaluation is dear."""

from numpyro_bridge.target import Target

LIGHT = 1_250_000
"""Bytes that one evaluation may make if it is to cost nothing: those of a regression of ten
thousand rows."""

HEAVY = 2 * LIGHT
"""With evaluations of more bytes no particles are tempered, which would cost more than all the rest
as well, and fewer probes are followed."""


def share_of_effort(target: Target) -> float:
    """How many climbs there are, as a share of those for a density of few data; at most one."""
    return min(1.0, LIGHT / max(1, target.innermost.num_bytes))


def is_heavy(target: Target) -> bool:
    """Whether one evaluation of the density costs so much that only the most needed are made."""
    return target.innermost.num_bytes > HEAVY
