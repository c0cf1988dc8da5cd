"""Programs that are compiled in other threads before they are called."""

import threading
from concurrent.futures import wait

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core import ahead
from numpyro_bridge._core.quick_jit import compile_ahead, full_jit, quick_jit
from tests import targets
from tests.compilations import all_called_that_is_compiled_ahead, listed_compilations

pytestmark = pytest.mark.fast

JITS = pytest.mark.parametrize("jit", [quick_jit, full_jit])


def wait_for_all():
    """Also for what nobody may compile any more."""
    wait([one.future for one in ahead._pending])


@pytest.fixture(autouse=True)
def nothing_waits():
    ahead.forget_waiting()
    yield
    ahead.forget_waiting()


@JITS
def test_a_program_that_was_compiled_ahead_is_not_compiled_again(jit):
    program = jit(lambda x, power: jnp.sum(jnp.cos(x) ** power))
    x = np.linspace(0.0, 1.0, 5)
    compile_ahead(program, np.zeros(5), 2)
    wait_for_all()
    with listed_compilations() as compiled:
        found = program(x, 2)
    assert not compiled
    np.testing.assert_allclose(found, np.sum(np.cos(x) ** 2))


@JITS
def test_a_call_waits_for_what_is_being_compiled(jit, monkeypatch):
    """And compiles nothing itself."""
    program = jit(lambda x: jnp.sum(jnp.sinh(x)))
    begun, may_end = threading.Event(), threading.Event()
    before = ahead._compiled_or_not

    def slowly(lowered):
        begun.set()
        assert may_end.wait(30)
        before(lowered)

    monkeypatch.setattr(ahead, "_compiled_or_not", slowly)
    compile_ahead(program, np.zeros(3))
    assert begun.wait(30)
    threading.Timer(0.2, may_end.set).start()
    with listed_compilations() as compiled:
        np.testing.assert_allclose(program(np.ones(3)), 3 * np.sinh(1.0))
    assert len(compiled) == 1 and may_end.is_set()


def test_a_call_does_not_wait_for_what_nobody_has_begun_to_compile(monkeypatch):
    program = quick_jit(lambda x: jnp.sum(jnp.tanh(x)))
    may_end = threading.Event()
    monkeypatch.setattr(ahead, "_compiled_or_not", lambda lowered: may_end.wait(30))
    for num in range(1, ahead.NUM_THREADS + 2):  # one more than there are threads
        compile_ahead(program, np.zeros(num))
    last = ahead._pending[-1].future
    num = ahead.NUM_THREADS + 1
    np.testing.assert_allclose(program(np.ones(num)), num * np.tanh(1.0))
    assert last.cancelled()
    may_end.set()
    wait_for_all()


def test_a_call_with_arguments_of_other_shapes_waits_for_nothing(monkeypatch):
    program = quick_jit(lambda x: jnp.sum(jnp.tan(x)))
    may_end = threading.Event()
    monkeypatch.setattr(ahead, "_compiled_or_not", lambda lowered: may_end.wait(30))
    compile_ahead(program, np.zeros(3))
    assert program(np.zeros(4)) == 0.0 and not may_end.is_set()
    may_end.set()
    wait_for_all()


def test_an_error_is_that_of_the_call():
    def refuses(x):
        raise ValueError("not today")

    program = quick_jit(refuses)
    compile_ahead(program, np.zeros(3))
    with pytest.raises(ValueError, match="not today"):
        program(np.zeros(3))


def test_an_error_of_the_compiler_is_that_of_the_call_too():
    class Broken:
        def compile(self):
            raise RuntimeError("no code for this")

    ahead.submit(len, lambda: Broken(), ())
    wait_for_all()
    ahead.wait_for(len, ())


def test_nothing_is_compiled_ahead_where_somebody_asks_for_that(monkeypatch):
    program = quick_jit(lambda x: jnp.sum(x))
    monkeypatch.setenv(ahead.VARIABLE, "0")
    compile_ahead(program, np.zeros(3))
    monkeypatch.delenv(ahead.VARIABLE)
    with jax.disable_jit():
        compile_ahead(program, np.zeros(3))
    assert not ahead._pending


def test_what_a_run_compiles_ahead_is_what_it_calls():
    with all_called_that_is_compiled_ahead():
        nb.BridgeSampler(targets.funnel().target, progress_bar=False).run(jax.random.key(0))
