"""BridgeSampler: from a NumPyro model to a trained bridge in one call."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import optax

from numpyro_bridge._core.checks import (
    check_count,
    check_function,
    check_instance,
    check_key,
    check_not_negative,
    check_objective,
    check_optimizer,
    check_process,
    check_trainable,
)
from numpyro_bridge._core.devices import Device, check_devices
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.standardisation import Standardisation, standardise
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.check_model import check_model
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.objectives import reverse_kl_ld
from numpyro_bridge.objectives.curricula import AbstractCurriculum
from numpyro_bridge.processes import CMCD, AbstractProcess
from numpyro_bridge.processes.make import make_process
from numpyro_bridge.target import Target
from numpyro_bridge.target.resolve import resolve_target
from numpyro_bridge.training.loop import UNCHANGED, fit
from numpyro_bridge.training.metrics import TrajectoryMetrics
from numpyro_bridge.training.optimizer import bridge_optimizer
from numpyro_bridge.training.report import RunReport, Seconds


class BridgeSampler:
    """Train a diffusion bridge to sample the posterior of a NumPyro model.

    The defaults need no tuning: the posterior is standardised, a bridge of a few dozen steps is
    trained until its ELBO no longer rises, and the result says how far it can be trusted.

        sampler = nb.BridgeSampler(model)
        posterior = sampler.run(jax.random.key(0), x, y=y)
        draws = posterior.sample(jax.random.key(1), num_samples=4_000)

    Args:
        model: A NumPyro model, or a target made by `target_from_log_density`.
        process: Makes the process from `(rng_key, dim)`, such as `nb.CMCD`, `nb.DBS` or
            `partial(nb.CMCD, num_steps=64)`.
        objective: The loss, such as `nb.reverse_kl_ld`, `nb.reverse_kl` or `nb.log_variance`.
        standardise: Chooses a map from `(rng_key, target)`; `nb.no_standardisation` for none,
            `partial(nb.standardise, nonlinear=False)` for an affine one.
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
            resumes.
        devices: Devices that share the trajectories of each iteration, such as `jax.devices()`;
            their number must divide `num_trajectories`. One device by default.
        progress_bar: Whether to show progress while training.
    """

    def __init__(
        self,
        model: Callable[..., Any] | Target,
        *,
        process: Callable[..., AbstractProcess] = CMCD,
        objective: Callable[..., Any] = reverse_kl_ld,
        standardise: Callable[[RNGKey, Target], Standardisation] = standardise,
        optimizer: optax.GradientTransformation | None = None,
        num_iterations: int = 1_200,
        num_trajectories: int = 256,
        curriculum: AbstractCurriculum = UNCHANGED,
        tolerance: float = 0.01,
        trainable: Any = None,
        checkpoint: str | os.PathLike | None = None,
        devices: Sequence[Device] | None = None,
        progress_bar: bool = True,
    ):
        _check_functions(model, process, objective, standardise)
        check_count("num_iterations", num_iterations, 1)
        check_count("num_trajectories", num_trajectories, 2)
        check_not_negative("tolerance", tolerance)
        check_trainable(trainable)
        _check_curriculum(curriculum, objective)
        _check_checkpoint(checkpoint)
        self.model = model
        self.process = process
        self.objective = objective
        self.standardise = standardise
        self.optimizer = bridge_optimizer() if optimizer is None else optimizer
        check_optimizer(self.optimizer)
        self.num_iterations = num_iterations
        self.num_trajectories = num_trajectories
        self.curriculum = curriculum
        self.tolerance = tolerance
        self.trainable = trainable
        self.checkpoint = checkpoint
        self.devices = check_devices(devices, num_trajectories)
        self.progress_bar = progress_bar
        settings = {"num_trajectories": num_trajectories, **curriculum.settings}
        # Arrays that a loss holds are arguments of the compiled code, not constants.
        self._loss = eqx.Partial(objective, **settings)

    def run(self, rng_key: RNGKey, *args: Any, **kwargs: Any) -> Posterior[TrajectoryMetrics]:
        """Standardise, train, and return the result; the sampler itself is not changed.

        Args:
            rng_key: The same key gives the same result.
            *args: Positional arguments of the model.
            **kwargs: Keyword arguments of the model.

        Returns:
            The trained posterior, from which any number of draws can be sampled.

        Raises:
            ValueError: if the model cannot be sampled. The message says what to change.
        """
        check_key(rng_key)
        target_key, map_key, process_key, fit_key = jax.random.split(rng_key, 4)
        target = resolve_target(target_key, self.model, args, kwargs)
        start = time.perf_counter()
        standardisation = self.standardise(map_key, target)
        standardise_time = time.perf_counter() - start
        process = make_process(self.process, process_key, target.dim, standardisation)
        standardised = StandardisedTarget(target, standardisation.map)
        process.prepared(standardised)  # refuses a target that the process cannot start on
        extra = {} if self.trainable is None else {"trainable": self.trainable}
        training = fit(
            fit_key,
            process,
            self._loss,
            standardised,
            optimizer=self.optimizer,
            num_iterations=self.num_iterations,
            curriculum=self.curriculum,
            tolerance=self.tolerance,
            checkpoint=self.checkpoint,
            devices=self.devices,
            progress_bar=self.progress_bar,
            **extra,
        )
        evaluations = training.num_iterations * self.num_trajectories * (process.num_steps + 1)
        report = RunReport(
            process=type(process).__name__,
            objective=name_of(self.objective),
            num_gradient_evaluations=evaluations + standardisation.num_gradient_evaluations,
            seconds=Seconds(standardise=standardise_time),
        )
        return Posterior(
            process=training.module,
            target=standardised,
            standardisation=standardisation,
            metrics=training.metrics,
            report=report.after(training),
        )


def _check_functions(model, process, objective, standardise) -> None:
    check_model(model, "BridgeSampler")
    if isinstance(process, AbstractProcess):
        raise ValueError(
            "process is made for the model's dimension: pass the class or a partial, such as "
            "process=partial(nb.CMCD, num_steps=64), not an instance"
        )
    check_process(process)
    check_function("standardise", standardise, "nb.standardise or nb.no_standardisation")


def _check_curriculum(curriculum, objective) -> None:
    such_as = "nb.Tempering() or nb.ReplayBuffer()"
    check_instance("curriculum", curriculum, AbstractCurriculum, such_as)
    check_objective(objective, **curriculum.settings)


def _check_checkpoint(checkpoint: str | os.PathLike | None) -> None:
    if checkpoint is not None and os.path.isdir(checkpoint):
        raise ValueError(
            f"checkpoint must be a file, and {os.fspath(checkpoint)!r} is a folder: write "
            f"checkpoint={os.path.join(checkpoint, 'checkpoint')!r}"
        )
