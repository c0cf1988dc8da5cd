"""Ctrl-C is noticed even where Python forgets its exception."""

import gc
import signal
import threading
import weakref

import pytest

from numpyro_bridge._core.interrupts import (
    forget_interrupt,
    noticed_interrupts,
    raise_interrupt,
)
from numpyro_bridge._core.stages import stage, stages
from tests import faults


class Thing:
    """Something that a weak reference can be made to."""


def press_in_collector():
    def press(phase, info):
        gc.callbacks.remove(press)
        signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(press)
    gc.collect()


def press_in_weak_reference():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None


PRESS = {"garbage collector": press_in_collector, "weak reference": press_in_weak_reference}


@pytest.mark.parametrize("where", faults.LOST_INTERRUPTS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_forgets_ends_the_stage(where):
    reached = []
    with pytest.raises(KeyboardInterrupt) as caught, stages(False):
        stage("exploring")
        PRESS[where]()
        reached.append("the end of the stage")
        stage("charting")
        reached.append("the next stage")
    assert reached == ["the end of the stage"]
    assert "interrupted while exploring" in caught.value.__notes__[0]
    raise_interrupt()  # nothing is left to be raised


def test_ctrl_c_that_was_dealt_with_is_forgotten():
    with noticed_interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        forget_interrupt()
        raise_interrupt()
        with noticed_interrupts(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # it came inside of the block within
            raise_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_user_and_other_threads_are_left_alone():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(None))
    try:
        with noticed_interrupts():
            signal.raise_signal(signal.SIGINT)
            raise_interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [None]
    done = []

    def work():
        with stages(False):
            stage("drawing")
            done.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
