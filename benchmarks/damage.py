"""Files that are damaged, and trainings that are killed: how many are refused, and resumed exactly.

    python -m benchmarks.damage

`docs/reference/promises.md` quotes these counts.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb

NUM_FLIPS, NUM_CUTS, NUM_MIXED = 300, 100, 100
"""Files with one flipped bit, files that are cut short, files with a stretch of other bytes."""

NUM_KILLS = 10

TRAINING = """
import sys
import jax, jax.numpy as jnp, numpy as np
import numpyro_bridge as nb
from functools import partial
from numpyro_bridge.training import checkpoints
checkpoints.SECONDS_BETWEEN_CHECKPOINTS = 0.0
target = nb.target_from_log_density(lambda x: -jnp.sum((x**2 - 1) ** 2), 2)
sampler = nb.BridgeSampler(
    target,
    process=partial(nb.CMCD, num_steps=4),
    standardise=nb.no_standardisation,
    num_iterations=2_000,
    num_trajectories=64,
    tolerance=0.0,
    checkpoint=sys.argv[1],
    progress_bar=False,
)
posterior = sampler.run(jax.random.key(0))
np.save(sys.argv[2], np.asarray(posterior.sample(jax.random.key(1), 500).log_weight))
"""
"""A training that writes a checkpoint after every few iterations, and the weights of its draws."""


class Counts(NamedTuple):
    """How many were tried, and how many went as promised."""

    tried: int
    kept: int


def damaged_files(seed: int = 0) -> dict[str, Counts]:
    """Damage the file of a posterior in several ways, and count how many are refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "posterior")
        _small_posterior().save(path)
        whole = path.read_bytes()
        nb.load(path, _model)
        return {
            name: _refused(path, files)
            for name, files in {
                "one bit flipped": _flipped(whole, random.Random(seed)),
                "cut short": _cut(whole, random.Random(seed + 1)),
                "a stretch of other bytes": _mixed(whole, random.Random(seed + 2)),
                "bytes added": iter([whole + b"\0", whole + whole, b"\n" + whole]),
            }.items()
        }


def _model(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def _small_posterior() -> nb.Posterior:
    x = jnp.linspace(-1.0, 1.0, 20)
    sampler = nb.BridgeSampler(
        _model, standardise=nb.standardise, num_iterations=2, progress_bar=False
    )
    return sampler.run(jax.random.key(0), x, y=2 * x)


def _flipped(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    for _ in range(NUM_FLIPS):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        yield whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]


def _cut(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    for length in rng.sample(range(len(whole)), NUM_CUTS):
        yield whole[:length]


def _mixed(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    for _ in range(NUM_MIXED):
        start = rng.randrange(len(whole) - 16)
        other = rng.randbytes(16)
        if other != whole[start : start + 16]:
            yield whole[:start] + other + whole[start + 16 :]


def _refused(path: Path, files: Iterator[bytes]) -> Counts:
    """Count the files that `nb.load` refuses with an error of its own, which names the file."""
    tried = refused = 0
    for content in files:
        tried += 1
        path.write_bytes(content)
        try:
            nb.load(path, _model)
        except ValueError as error:
            refused += str(path) in str(error)
    return Counts(tried, refused)


def kills(seed: int = 0) -> Counts:
    """Kill trainings at random moments, resume them, and compare with one that was not killed."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        expected = _weights_of(Path(folder), "whole", kill_after=None, seconds=0.0)
        kept = 0
        for number in range(NUM_KILLS):
            name = f"killed{number}"
            weights = _weights_of(Path(folder), name, kill_after=rng.uniform(0.0, 1.5), seconds=60)
            kept += np.array_equal(weights, expected)
    return Counts(NUM_KILLS, kept)


def _weights_of(folder: Path, name: str, kill_after: float | None, seconds: float) -> np.ndarray:
    """Run the training to its end; kill it once before, so long after its first checkpoint."""
    checkpoint, output = folder / name, folder / f"{name}.npy"
    command = [sys.executable, "-c", TRAINING, str(checkpoint), str(output)]
    if kill_after is not None:
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + seconds
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(kill_after)
        if process.poll() is not None:
            raise RuntimeError("the training ended before it could be killed")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    return np.load(output)


def main() -> None:
    for name, counts in damaged_files().items():
        print(f"{name}: {counts.kept} of {counts.tried} refused")
    counts = kills()
    print(f"killed while training: {counts.kept} of {counts.tried} resumed exactly")


if __name__ == "__main__":
    main()
