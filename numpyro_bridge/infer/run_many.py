"""Run a sampler on many data sets, in turn or in the processes of joblib.

Every run decides for itself how many charts its posterior has and whether anything is trained, so
runs are not one vectorised program, which would do for each data set what any of them needs. They
share all programs that they have in common: from the second data set on hardly anything is
compiled.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from numpyro_bridge._core.checks import described
from numpyro_bridge._core.devices import spans_processes
from numpyro_bridge._core.interrupts import noticed_interrupts, times_pressed
from numpyro_bridge._core.keys import fold_in
from numpyro_bridge._core.together import is_first
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.infer.many_posteriors import ManyPosteriors
from numpyro_bridge.infer.posterior import Posterior

GIVE_UP_AFTER = 3
"""If so many runs fail, and none before them succeeded, the fault is that of the call."""

SUCH_AS = '{"y": ys} with one data set a row, or [{"y": y_1}, {"y": y_2}]'

Run = Callable[..., Posterior[Any]]
Result = Posterior[Any] | Exception


def run_many(
    sampler: Any,
    rng_key: RNGKey,
    data_sets: list[dict[str, Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> ManyPosteriors:
    """One run for each data set.

    Args:
        sampler: A `BridgeSampler`.
        rng_key: Data set `number` is run with `jax.random.fold_in(rng_key, number)`.
        data_sets: Keyword arguments of each data set.
        args: Positional arguments of all.
        kwargs: Keyword arguments of all.

    Returns:
        As many results as there are data sets. After Ctrl-C, those that are missing are errors that
        say so.

    Raises:
        ValueError: if the sampler's devices are those of several processes.
        RuntimeError: if the first three runs, or all, fail; its cause is the first error.
        KeyboardInterrupt: if nothing is finished.
    """
    if spans_processes(sampler.mesh):
        raise ValueError(
            "run_many is not divided among processes: give each process its own data sets, such as "
            "data_sets[jax.process_index() :: jax.process_count()], and devices=jax.local_devices()"
        )
    tasks = [
        (_run_of(sampler, number), fold_in(rng_key, number), args, {**kwargs, **data})
        for number, data in enumerate(data_sets)
    ]
    hidden = not (sampler.progress_bar and is_first()) or "CI" in os.environ
    results: list[Result] = []
    with noticed_interrupts(), tqdm(total=len(tasks), desc="data sets", disable=hidden) as bar:
        try:
            for result in _results(tasks):
                results.append(result)
                bar.update()
                if len(results) == min(GIVE_UP_AFTER, len(tasks)):
                    _give_up_if_all_failed(results)
        except KeyboardInterrupt:
            if not any(isinstance(result, Posterior) for result in results):
                raise
    missing = len(tasks) - len(results)
    interrupted: list[Result] = [
        RuntimeError("Ctrl-C was pressed before this data set was done") for _ in range(missing)
    ]
    return ManyPosteriors((*results, *interrupted))


def data_sets_of(data: Any, kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The keyword arguments of each data set.

    Args:
        data: A dictionary of arrays with one data set a row, or a sequence of dictionaries.
        kwargs: Keyword arguments that all data sets share.

    Raises:
        ValueError: if it is neither, or there is nothing in it, or arrays differ in their number of
            rows, or an argument is given for each data set and for all.
    """
    if isinstance(data, Mapping):
        sets = _rows(data)
    elif isinstance(data, Sequence) and all(isinstance(each, Mapping) for each in data):
        sets = [dict(each) for each in data]
    else:
        raise ValueError(f"data_sets must be {SUCH_AS}, got {described(data)}")
    if not sets:
        raise ValueError(f"data_sets is empty: pass {SUCH_AS}")
    twice = sorted({name for each in sets for name in each} & set(kwargs))
    if twice:
        raise ValueError(
            f"the arguments {twice} are given for each data set and for all of them: leave them "
            "out of one"
        )
    return sets


def _rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    arrays = jax.tree.map(np.asarray, dict(data))
    lengths = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape[:1]
        for path, leaf in jax.tree.leaves_with_path(arrays)
    }
    if not lengths or () in lengths.values() or len({*lengths.values()}) > 1:
        numbers = {name: length[0] if length else "no rows" for name, length in lengths.items()}
        raise ValueError(
            "data_sets must have as many rows in each array as there are data sets, got "
            f"{numbers}: pass {SUCH_AS}, and what all data sets share as further arguments"
        )
    num = next(iter(lengths.values()))[0]
    return [jax.tree.map(lambda leaf, row=row: leaf[row], arrays) for row in range(num)]


def _run_of(sampler: Any, number: int) -> Run:
    """The method `run` of a sampler that shows nothing, and writes a checkpoint of its own."""
    sampler = copy(sampler)
    sampler.progress_bar = False
    if sampler.checkpoint is not None:
        sampler.checkpoint = f"{os.fspath(sampler.checkpoint)}.data{number}"
    return sampler.run


def _results(tasks: list[tuple[Any, ...]]) -> Iterator[Result]:
    """The results in order, from processes if `joblib.parallel_config` asks for some."""
    joblib = sys.modules.get("joblib")
    _, num_jobs = joblib.parallel.get_active_backend() if joblib else (None, 1)
    if joblib is None or num_jobs in (None, 1):
        for task in tasks:
            pressed = times_pressed()
            result = _result(*task)
            if times_pressed() > pressed:  # the run has returned what it had, and is not done
                raise KeyboardInterrupt
            yield result
        return
    precise = jax.config.read("jax_enable_x64")
    work = (joblib.delayed(_result_in_process)(precise, *task) for task in tasks)
    yield from joblib.Parallel(return_as="generator")(work)


def _result_in_process(precise: bool, *task: Any) -> Result:
    with jax.enable_x64(precise):
        return _result(*task)


def _result(run: Run, rng_key: RNGKey, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
    try:
        return run(rng_key, *args, **kwargs)
    except Exception as error:
        return error


def _give_up_if_all_failed(results: list[Result]) -> None:
    errors = [result for result in results if isinstance(result, Exception)]
    if len(errors) == len(results):
        first = errors[0]
        raise RuntimeError(
            f"the first {len(errors)} data sets all failed: {type(first).__name__}: {first}"
        ) from first
