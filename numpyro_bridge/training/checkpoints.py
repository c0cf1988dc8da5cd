"""Checkpoints: files from which an interrupted training can be resumed."""

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

from numpyro_bridge._core.storage import load_header, load_tree, save_tree
from numpyro_bridge._core.together import is_first, on_all
from numpyro_bridge._core.writing import only_writer
from numpyro_bridge.training.metrics import AbstractFitMetrics, FitMetrics, concatenate
from numpyro_bridge.training.run_identity import Run, difference
from numpyro_bridge.training.state import Progress, TrainingState

SECONDS_BETWEEN_CHECKPOINTS = 5.0


class Keeper:
    """Writes checkpoints now and then, and once more when training ends, however it ends.

    Of several processes only the first one writes.
    """

    def __init__(self, path: str | os.PathLike[str] | None, run: Run | None):
        self._path, self._run = path if is_first() else None, run
        self._alone = only_writer("checkpoint", self._path)
        self._latest = None
        self._last_written = time.perf_counter()

    def __enter__(self) -> "Keeper":
        on_all("opening the checkpoint", self._alone.__enter__)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._write()
        finally:
            self._alone.__exit__(None, None, None)

    def offer(
        self, state: TrainingState, progress: Progress, history: Sequence[AbstractFitMetrics]
    ) -> None:
        """Remember the state after a chunk, and write it if the last write was a while ago."""
        self._latest = (state, replace(progress), concatenate(history))
        if time.perf_counter() - self._last_written > SECONDS_BETWEEN_CHECKPOINTS:
            self._write()

    def _write(self) -> None:
        if self._path is None or self._run is None or self._latest is None:
            return
        state, progress, metrics = self._latest
        header = {
            "kind": "checkpoint",
            "run": self._run._asdict(),
            "num_done": metrics.num_iterations,
            "progress": vars(progress),
        }
        try:
            save_tree(self._path, header, (state, metrics))
        except OSError as error:
            # What has been trained is worth more than the file.
            warnings.warn(
                f"the checkpoint {os.fspath(self._path)!r} could not be written: "
                f"{error.strerror or error}. The training goes on, and cannot be resumed from "
                "here if it is interrupted",
                UserWarning,
                stacklevel=2,
            )
        self._last_written = time.perf_counter()


def resume(
    path: str | os.PathLike[str], state: TrainingState, run: Run, metrics: type[FitMetrics]
) -> tuple[TrainingState, Progress, list[FitMetrics]]:
    """Read the state, the progress and the metrics of an interrupted run from its checkpoint.

    Args:
        path: The file.
        state: A state with the shapes of the one to read.
        run: The present run, which has to be the one that wrote the file.
        metrics: The class of the metrics that the run keeps.

    Raises:
        ValueError: if the file is not a checkpoint, or is that of another run.
    """
    header = load_header(path)
    if header.get("kind") != "checkpoint":
        raise ValueError(
            f"{os.fspath(path)!r} is not a checkpoint of this run but a {header.get('kind')}; "
            "give checkpoint= another path"
        )
    other = difference(Run(**header["run"]), run)
    if other is not None:
        raise ValueError(
            f"{os.fspath(path)!r} is not a checkpoint of this run: it has {other}; delete it to "
            "start anew, or give the settings that it was made with"
        )
    _, (state, done) = load_tree(path, (state, metrics.blank(header["num_done"])))
    history = [done] if header["num_done"] else []
    return state, Progress(**header["progress"]), history
