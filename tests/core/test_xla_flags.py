"""Factorisations side by side do not wait for each other for ever, on few cores."""

import os
import subprocess
import sys

import pytest

from numpyro_bridge._core import xla_flags
from numpyro_bridge._core.xla_flags import FLAG, avoid_hang, can_hang

SIDE_BY_SIDE = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import numpyro_bridge
import jax, jax.numpy as jnp

def step(carry, _):
    a, b = carry
    q, _ = jnp.linalg.qr(a)
    log_det = jnp.linalg.slogdet(b + jnp.eye(10))[1]
    return (a + 1e-3 * q, 0.999 * b + 1e-3 * log_det[:, None, None]), None

a, b = jax.random.normal(jax.random.key(0), (248, 32, 10)), jnp.ones((248, 10, 10))
a, b = jax.jit(lambda a, b: jax.lax.scan(step, (a, b), length=500)[0])(a, b)
print(bool(jnp.isfinite(a).all()))
"""
"""Without the flag it stands still on two cores with JAX 0.10, each time it was tried."""


def test_factorizations_side_by_side_finish_on_two_cores():
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-c", SIDE_BY_SIDE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert run.stdout.strip() == "True", run.stderr


@pytest.mark.parametrize(
    ("jaxlib", "cores", "expected"),
    [
        ("0.10.2", 2, True),
        ("0.11.0", 4, True),
        ("0.10.2", 16, False),
        ("0.11.1", 2, False),
        ("0.12.0.1", 2, False),
    ],
)
def test_what_can_hang(jaxlib, cores, expected):
    assert can_hang(jaxlib, cores) is expected


@pytest.fixture
def affected(monkeypatch):
    """As if JAX were an affected one, on two cores, and had not run yet."""
    monkeypatch.setattr(xla_flags, "version", lambda name: "0.10.2")
    monkeypatch.setattr(xla_flags, "num_cores", lambda: 2)
    monkeypatch.setattr(xla_flags, "_jax_has_started", lambda: False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return monkeypatch


def test_flag_is_added_to_others(affected):
    affected.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    avoid_hang()
    assert os.environ["XLA_FLAGS"] == f"--xla_cpu_enable_fast_math=false {FLAG}=false"


def test_flag_of_the_user_is_left_alone(affected):
    affected.setenv("XLA_FLAGS", f"{FLAG}=true")
    avoid_hang()
    assert os.environ["XLA_FLAGS"] == f"{FLAG}=true"


def test_no_flag_where_nothing_can_hang(affected):
    affected.setattr(xla_flags, "version", lambda name: "0.11.1")
    avoid_hang()
    assert "XLA_FLAGS" not in os.environ


def test_a_flag_that_comes_too_late_warns(affected):
    affected.setattr(xla_flags, "_jax_has_started", lambda: True)
    with pytest.warns(UserWarning, match="import numpyro_bridge before that"):
        avoid_hang()
    assert "XLA_FLAGS" not in os.environ
