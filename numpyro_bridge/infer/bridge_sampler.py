"""BridgeSampler: from a NumPyro model to a trained bridge in one call."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import optax
from jax.sharding import Mesh

from numpyro_bridge._core.checks import (
    check_count,
    check_flag,
    check_instance,
    check_not_negative,
    check_objective,
    check_optimizer,
    check_process,
    check_trainable,
)
from numpyro_bridge._core.devices import Device, mesh_of
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.writing import file_path
from numpyro_bridge.atlas.chart import Chart, Explore, chart
from numpyro_bridge.atlas.explore import explore
from numpyro_bridge.infer.check_model import check_model
from numpyro_bridge.infer.many_posteriors import ManyPosteriors
from numpyro_bridge.infer.one_run import run_once
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.run_many import data_sets_of, run_many
from numpyro_bridge.infer.seeing import Standardise, check_stages
from numpyro_bridge.objectives import reverse_kl_ld
from numpyro_bridge.objectives.curricula import AbstractCurriculum
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.training.loop import UNCHANGED
from numpyro_bridge.training.metrics import TrajectoryMetrics
from numpyro_bridge.training.optimizer import bridge_optimizer

FOR_MANY = "for many data sets write sampler.run_many(rng_key, {'y': ys}), with one a row"
"""What to do in place of calling `run` inside `jax.vmap`."""


class BridgeSampler:
    """Train a diffusion bridge to sample the posterior of a NumPyro model.

    The defaults need no tuning. The posterior is explored and divided into charts, on which it is
    nearly normal. Where draws of the charts, weighted as they are, are good enough, nothing is
    trained. Where there is one chart, up to 64 annealed moves that need no training are tried next.
    Elsewhere a bridge of a few dozen steps is trained on every chart, until its ELBO no longer
    rises. The result says how far it can be trusted, and `posterior.atlas` what was seen.

    >>> sampler = nb.BridgeSampler(model)
    >>> posterior = sampler.run(jax.random.key(0), x, y=y)
    >>> draws = posterior.sample(jax.random.key(1), num_samples=4_000)

    Args:
        model: A NumPyro model, or a target made by `target_from_log_density`.
        process: Makes the process from `(rng_key, dim)`, such as `nb.CMCD`, `nb.DBS` or
            `partial(nb.CMCD, num_steps=64)`; a process that is named is trained. By default it is
            `nb.CMCD`, and only where neither the charts suffice nor `nb.UHA`, which is not trained.
        objective: The loss, such as `nb.reverse_kl_ld`, `nb.reverse_kl` or `nb.log_variance`.
        explore: Finds the places to chart from `(rng_key, target)`.
        charts: Makes the atlas from `(rng_key, target, exploration)`, such as
            `partial(nb.atlas.chart, bend=False)` for affine maps only.
        standardise: Chooses a single map from `(rng_key, target)`, in place of exploration and
            charts: `nb.standardise`, or `nb.no_standardisation` for none. The process is then
            trained.
        optimizer: An optax transformation over the arrays of the process; by default
            `bridge_optimizer()`, which is Adam with a rate for each kind of part.
        num_iterations: The largest number of training iterations; training stops earlier where the
            ELBO no longer rises.
        num_trajectories: Trajectories per iteration, at least 2.
        curriculum: Changes what the loss is shown in the course of the training, such as
            `nb.Tempering()` or `nb.ReplayBuffer()`; by default the loss is shown the target.
        tolerance: Training ends when the ELBO rises by fewer nats than this in 100 iterations; 0
            uses all iterations.
        trainable: Which arrays of the process are trained, as a filter in Equinox's sense; all by
            default.
        checkpoint: A file that is written every few seconds, and from which an interrupted run
            resumes; the second chart and later ones add their numbers to its name.
        devices: Devices that share the trajectories of each iteration, such as `jax.devices()`;
            their number must divide `num_trajectories`. One device by default. They may be those of
            several processes, which then do one run together.
        mesh: A mesh of devices in place of `devices`. Trajectories are divided along its axis of
            the name "trajectories"; along all axes if there is none.
        progress_bar: Whether to show the stages of the run, and progress while training.
    """

    def __init__(
        self,
        model: Callable[..., Any] | Target,
        *,
        process: Callable[..., AbstractProcess[Any]] | None = None,
        objective: Callable[..., Any] = reverse_kl_ld,
        explore: Explore = explore,
        charts: Chart = chart,
        standardise: Standardise | None = None,
        optimizer: optax.GradientTransformation | None = None,
        num_iterations: int = 1_200,
        num_trajectories: int = 256,
        curriculum: AbstractCurriculum[Any] = UNCHANGED,
        tolerance: float = 0.01,
        trainable: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        devices: Sequence[Device] | None = None,
        mesh: Mesh | None = None,
        progress_bar: bool = True,
    ):
        _check_functions(model, process, explore, charts, standardise)
        num_iterations = check_count("num_iterations", num_iterations, 1)
        num_trajectories = check_count("num_trajectories", num_trajectories, 2)
        tolerance = check_not_negative("tolerance", tolerance)
        check_trainable(trainable)
        _check_curriculum(curriculum, objective)
        if checkpoint is not None:
            file_path("checkpoint", checkpoint)
        self.model = model
        self.process = process
        self.objective = objective
        self.explore = explore
        self.charts = charts
        self.standardise = standardise
        self.optimizer: optax.GradientTransformation = (
            bridge_optimizer() if optimizer is None else optimizer
        )
        check_optimizer(self.optimizer)
        self.num_iterations = num_iterations
        self.num_trajectories = num_trajectories
        self.curriculum = curriculum
        self.tolerance = tolerance
        self.trainable = trainable
        self.checkpoint = checkpoint
        self.mesh: Mesh | None = mesh_of(devices, mesh, num_trajectories)
        self.progress_bar: bool = check_flag("progress_bar", progress_bar)
        settings = {"num_trajectories": num_trajectories, **curriculum.settings}
        # Arrays that a loss holds are arguments of the compiled code, not constants.
        self.loss = eqx.Partial(objective, **settings)

    def __repr__(self) -> str:
        process = "" if self.process is None else f", process={name_of(self.process)}"
        return f"BridgeSampler({name_of(self.model)}{process}, objective={name_of(self.objective)})"

    def run(
        self, rng_key: RNGKey, *args: Any, **kwargs: Any
    ) -> Posterior[TrajectoryMetrics | None]:
        """Explore, chart, train where needed, and return the result; the sampler is not changed.

        Args:
            rng_key: The same key gives the same result.
            *args: Positional arguments of the model.
            **kwargs: Keyword arguments of the model.

        Returns:
            The posterior, from which any number of draws can be sampled. Its `metrics` are None
            where the charts sufficed and nothing was trained.

        Raises:
            ValueError: if the model cannot be sampled, or another process that takes part does not
                do the same. The message says what to change.
            RuntimeError: if another process that takes part is lost.
        """
        check_door("BridgeSampler.run", rng_key, self.model, args, kwargs, instead=FOR_MANY)
        return run_once(self, rng_key, args, kwargs)

    def run_many(
        self,
        rng_key: RNGKey,
        data_sets: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> ManyPosteriors:
        """Run on many data sets, and keep the posterior of each with its own verdict.

        Data set `number` gets what `run` gives with `jax.random.fold_in(rng_key, number)` and its
        arguments. Where data sets have one shape, hardly anything is compiled after the first. They
        are run in turn, or in processes::

            with joblib.parallel_config("loky", n_jobs=4):
                many = sampler.run_many(rng_key, {"y": ys}, x)

        Ctrl-C returns what is finished, and a data set that fails does not stop the others.

        Args:
            rng_key: The same key gives the same results.
            data_sets: Keyword arguments of the model that differ between data sets: a dictionary of
                arrays with one data set a row, or a list of dictionaries, whose shapes may differ.
            *args: Positional arguments of the model, the same for all.
            **kwargs: Keyword arguments of the model, the same for all.

        Raises:
            ValueError: if the data sets cannot be told apart.
            RuntimeError: if the first three runs, or all, fail; its cause is the first error.
        """
        check_door("BridgeSampler.run_many", rng_key, self.model, data_sets, args, kwargs)
        sets = data_sets_of(data_sets, kwargs)
        return run_many(self, rng_key, sets, args, kwargs)


def _check_functions(model, process, explore, charts, standardise) -> None:
    check_model(model, "BridgeSampler")
    if isinstance(process, AbstractProcess):
        raise ValueError(
            "process is made for the model's dimension: pass the class or a partial, such as "
            "process=partial(nb.CMCD, num_steps=64), not an instance"
        )
    if process is not None:
        check_process(process)
    check_stages(explore, charts, standardise)


def _check_curriculum(curriculum, objective) -> None:
    such_as = "nb.Tempering() or nb.ReplayBuffer()"
    check_instance("curriculum", curriculum, AbstractCurriculum, such_as)
    check_objective(objective, **curriculum.settings)
