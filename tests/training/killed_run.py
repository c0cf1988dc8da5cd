"""A training that is killed at one moment after another: `python -m tests.training.killed_run`.

JAX is imported once and starts in each of the processes that are forked from this one.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax

from numpyro_bridge._core import writing
from numpyro_bridge.training import checkpoints, loop
from tests import conftest, faults

NUM_ITERATIONS = 400
"""Sixteen chunks, so that there is something left after every kill."""

assert conftest.MAPS  # imported for the settings of JAX, which have to be those of the tests


def train(path: Path):
    """The training, which resumes from the file if there is one."""
    from tests.hill import TOP, Hill, climb, fit  # which starts JAX

    key = jax.random.key(0)
    return fit(key, Hill(), climb, TOP, num_iterations=NUM_ITERATIONS, checkpoint=path)


def kill(*_) -> None:
    """End this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


def after(num_calls: int, then, otherwise=lambda *_: None):
    """A function that does one thing for a number of calls, and then another."""
    calls = []

    def call(*args):
        calls.append(None)
        return (then if len(calls) > num_calls else otherwise)(*args)

    return call


def kill_soon(*_) -> None:
    """Kill from another thread, while this one goes on."""
    threading.Thread(target=lambda: (time.sleep(0.001), kill())).start()


def arrange(moment: str) -> None:
    """Arrange for this process to be killed at a moment of its training."""
    checkpoints.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    if moment == "before the first checkpoint":
        loop.Keeper.offer = kill
    elif moment == "between two chunks":
        loop.Bar.show = after(5, kill)
    elif moment == "inside a chunk":
        loop.Bar.show = after(5, kill_soon)
    else:
        writing.os.replace = after(5, kill, os.replace)


def main(folder: Path) -> None:
    """Kill one training for each moment; each leaves its checkpoint in the folder."""
    for number, moment in enumerate(faults.KILLS):
        child = os.fork()
        if child == 0:
            try:
                arrange(moment)
                train(folder / str(number))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        print(moment, os.WIFSIGNALED(status) and os.WTERMSIG(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
