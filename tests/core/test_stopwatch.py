"""A stopwatch: compiling and running apart."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.stopwatch import _length_of_union, stopwatch


def test_overlapping_spans_count_once():
    assert _length_of_union([(0.0, 2.0), (1.0, 1.5), (1.0, 3.0), (5.0, 6.0)]) == 4.0
    assert _length_of_union([]) == 0.0


def test_a_stopwatch_tells_compiling_from_running():
    @jax.jit
    def slow_to_compile(x):
        for _ in range(40):
            x = jnp.sort(jnp.sin(x))
        return x

    with stopwatch() as first:
        jax.block_until_ready(slow_to_compile(jnp.arange(3.0)))
    with stopwatch() as second:
        jax.block_until_ready(slow_to_compile(jnp.arange(3.0)))
    assert first.compiling > 0.02 and second.compiling < 0.2 * first.compiling
    assert first.running < first.compiling
