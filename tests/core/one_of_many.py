"""One process of several that do a run together; started by `test_together`.

    python -m tests.core.one_of_many run 1 2 12345 some/folder

is the second of two processes that do the case "run", and writes what it finds into the folder.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import numpyro_bridge as nb
from numpyro_bridge.training import checkpoints, loop

NUM_ITERATIONS = 150

SMALL = partial(nb.processes.ScoreInformedControl, width=4, depth=2)


def either_side(distance):
    """Two modes, one on either side, of which the data cannot tell."""
    x = numpyro.sample("x", dist.Normal(0.0, 10.0))
    numpyro.sample("distance", dist.Normal(abs(x), 0.5), obs=distance)


def sampler(devices, **settings):
    """A small bridge on the charts of both modes."""
    return nb.BridgeSampler(
        either_side,
        process=partial(nb.CMCD, num_steps=2, control=SMALL),
        num_trajectories=12,
        devices=devices,
        **{"num_iterations": 30, "progress_bar": False, **settings},
    )


def found(devices, folder: Path) -> dict[str, np.ndarray]:
    """What a run and its draws say, after the posterior went through a file."""
    posterior = sampler(devices).run(jax.random.key(0), 5.0)
    posterior.save(folder / f"posterior{jax.process_index()}")
    draws = posterior.sample(jax.random.key(1), 100, devices=devices)
    others, here = jax.process_count() - 1, jax.process_index()
    wrong = ["nowhere"] if here == others > 0 else []
    refused = _said(lambda: posterior.sample(jax.random.key(1), exclude=wrong, devices=devices))
    return {
        "refused": np.asarray(refused),
        "elbo": posterior.metrics.elbo,
        "log_weight": np.asarray(draws.log_weight),
        "x": np.asarray(draws.sites["x"]),
        "chart": np.asarray(draws.chart),
        "num_processes": np.asarray(posterior.report.num_processes or 1),
    }


def trained(devices, path: Path | None) -> dict[str, np.ndarray]:
    """What a longer training says that a checkpoint may interrupt."""
    settings = {"standardise": nb.no_standardisation, "tolerance": 0.0, "checkpoint": path}
    posterior = sampler(devices, num_iterations=NUM_ITERATIONS, **settings).run(
        jax.random.key(0), 5.0
    )
    return {"elbo": posterior.metrics.elbo, "stopped": np.asarray(posterior.report.stopped.value)}


def after_three_chunks(act) -> None:
    """Let something happen between the third chunk of a training and the fourth."""
    decide, calls = loop.decide, []

    def decided(*args, **kwargs):
        calls.append(None)
        if len(calls) == 3:
            act()
        return decide(*args, **kwargs)

    loop.decide = decided


def refusals(process: int, num: int) -> dict[str, np.ndarray]:
    """What is said of calls that several processes cannot do together."""
    theirs = [device for device in jax.devices() if device.process_index != process]
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
    divided = jax.make_array_from_callback((8,), rows, lambda index: np.full(8, 5.0)[index])
    shared, two = sampler(jax.devices()), np.array([4.0, 5.0])

    def fails_elsewhere(distance):
        if process == num - 1:
            raise OSError("the data are not here")
        either_side(distance)

    calls = {
        "devices of others": lambda: sampler(theirs),
        "many data sets": lambda: shared.run_many(jax.random.key(0), {"distance": two}),
        "divided rows": lambda: shared.run(jax.random.key(0), divided),
        "other data": lambda: shared.run(jax.random.key(0), 5.0 + process),
        "other keys": lambda: shared.run(jax.random.key(process), 5.0),
        "other settings": lambda: nb.BridgeSampler(
            either_side,
            process=nb.CMCD,
            num_iterations=50 + process,
            num_trajectories=8 + 8 * process,
            devices=jax.devices(),
            progress_bar=False,
        ).run(jax.random.key(0), 5.0),
        "a model that fails elsewhere": lambda: nb.BridgeSampler(
            fails_elsewhere, process=nb.CMCD, devices=jax.devices(), progress_bar=False
        ).run(jax.random.key(0), 5.0),
    }
    return {name: np.asarray(_said(call)) for name, call in calls.items()}


def _said(call) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def fail() -> None:
    """Fail in this process alone."""
    raise MemoryError("no memory is left here")


def main(case: str, process: int, num: int, port: int, folder: Path) -> None:
    """Do a case as one of several processes."""
    numpyro.enable_x64()
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(
        f"127.0.0.1:{port}", num, process, heartbeat_timeout_seconds=10, shutdown_timeout_seconds=10
    )
    checkpoints.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    last = process == num - 1
    if case == "run":
        result = found(jax.devices(), folder)
    elif case == "killed":
        if last:
            after_three_chunks(lambda: os.kill(os.getpid(), signal.SIGKILL))
        result = trained(jax.devices(), folder / "checkpoint")
    elif case == "interrupted":
        if last:
            after_three_chunks(lambda: signal.raise_signal(signal.SIGINT))
        result = trained(jax.devices(), None) | refusals(process, num)
    elif case == "failed":
        if last:
            after_three_chunks(fail)
        result = trained(jax.devices(), folder / "checkpoint")
    else:
        raise ValueError(case)
    np.savez(folder / f"{process}.npz", **result)


if __name__ == "__main__":
    case, process, num, port, folder = sys.argv[1:]
    main(case, int(process), int(num), int(port), Path(folder))
