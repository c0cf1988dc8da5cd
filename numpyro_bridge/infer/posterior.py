"""Posterior: a trained bridge that can be sampled, saved and loaded."""

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from numpyro import handlers

from numpyro_bridge._core.checks import MOST_STEPS, check_count, check_names
from numpyro_bridge._core.devices import Device, copy_to, mesh_of
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.keys import split
from numpyro_bridge._core.together import is_first, on_all, together
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.weights import pareto_smooth, resample_indices
from numpyro_bridge._core.writing import file_path
from numpyro_bridge.atlas.atlas import Atlas
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.draws.backward_runs import BackwardRuns, backward_log_weights
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.given import positions_and_weights
from numpyro_bridge.draws.html import html_of_posterior
from numpyro_bridge.draws.prediction import model_of, run_on_given
from numpyro_bridge.draws.verdict import MAX_NON_FINITE_SHARE, ReliabilityWarning
from numpyro_bridge.infer.distribution import PosteriorDistribution
from numpyro_bridge.infer.drawing import check_same_draws, drawn
from numpyro_bridge.infer.flow_guide import FlowGuide, trained_flow
from numpyro_bridge.infer.kept_sites import KeptSites, kept_sites
from numpyro_bridge.infer.posterior_files import SavedPosterior, write_posterior
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.target.refusals import check_arguments
from numpyro_bridge.training.metrics import AbstractMetrics
from numpyro_bridge.training.report import RunReport

MetricsOrNone = TypeVar("MetricsOrNone", bound=AbstractMetrics | None)


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Generic[MetricsOrNone]):
    """A trained bridge.

    >>> posterior
    Posterior(process: CMCD, 4 steps, dimensions: 2, training: 50 iterations)
    >>> draws = posterior.sample(key, num_samples=1_000)

    Attributes:
        process: The two chains, trained; where there are several charts, those of all charts,
            stacked along a leading axis.
        target: The target in standardised coordinates, or on several charts; `target.base` is in
            the model's own.
        standardisation: How the map was chosen, where there is one chart that was not made by
            charting; where there are several, the map of the first.
        metrics: Numbers of every training iteration: the ELBO, the spread of the log weights and
            the ESS (`TrajectoryMetrics`), or the loss of a denoiser (`LossMetrics`); None where
            there is no record of the training, or there was none; those of several charts follow
            each other.
        atlas: The charts, their masses, and what was seen while they were made; None where a single
            map was chosen in another way, or charts were made from draws.
        report: How the posterior was trained and what that cost.
    """

    process: AbstractProcess[Any]
    target: SeenTarget
    standardisation: Standardisation
    metrics: MetricsOrNone
    report: RunReport = RunReport()
    atlas: Atlas | None = None
    doubts: tuple[str, ...] = ()
    """Sentences about what the charts, or the bridges on them, may have missed."""

    def __repr__(self) -> str:
        return f"Posterior({', '.join(f'{name}: {value}' for name, value in self._facts())})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the process, the charts, and what they may have missed."""
        return html_of_posterior(self._facts(), self.doubts)

    def _facts(self):
        num_steps, trained = self.process.num_steps, self.report.num_iterations
        steps = f"{self.report.process}, {num_steps} steps" if num_steps else "none is needed"
        yield "process", steps
        yield "dimensions", f"{self.target.dim:,}"
        if self.atlas is not None:
            yield "charts", f"{self.atlas.num_charts}"
        yield "training", f"{trained:,} iterations" if trained else "none was needed"

    def sample(
        self,
        rng_key: RNGKey,
        num_samples: int = 4_000,
        *,
        exclude: Sequence[str] = (),
        devices: Sequence[Device] | None = None,
        mesh: Mesh | None = None,
    ) -> Draws:
        """Draw trajectories, and keep the end of each with the log weight of its whole path.

        Args:
            rng_key: The same key gives the same draws.
            num_samples: Number of independent draws.
            exclude: Deterministic sites whose values are not kept, such as large ones.
            devices: Devices that share the trajectories; one by default. Where they are those of
                several processes, each of these gets all draws.
            mesh: A mesh of devices instead, as `BridgeSampler` takes it.

        Raises:
            ValueError: if `num_samples` is below 1, `exclude` names another site, or data that the
                model reads by itself have changed.
            RuntimeError: if another process that takes part is lost.
        """
        mesh = mesh_of(devices, mesh)
        start = time.perf_counter()
        with together(mesh):
            check = partial(self._what_to_draw, rng_key, num_samples, exclude)
            num_samples, kept = on_all("checking what to draw", check)
            check_same_draws(rng_key, num_samples, kept)
            process, target = copy_to(mesh, (self.process, self.target))
            (end, sites), num_paths = drawn(rng_key, process, target, num_samples, mesh, kept)
        seconds = time.perf_counter() - start
        evaluations = num_paths * (self.process.num_steps + 1)
        return Draws(
            sites=sites,
            log_weight=end.log_weight,
            position=end.position,
            log_density=end.log_density,
            target=self.target.base,
            num_non_finite=int(np.sum(~np.asarray(end.finite))),
            report=self.report.drawn(seconds, evaluations),
            chart=end.chart,
            warnings=(*self._idle_training(), *self.doubts),
            notes=self._notes(),
        )

    def _what_to_draw(self, rng_key, num_samples, exclude) -> tuple[int, KeptSites]:
        check_door("Posterior.sample", rng_key, self.target)
        self.target.base.check_unchanged()
        num_samples = check_count("num_samples", num_samples, 1)
        return num_samples, kept_sites(self.target.base, exclude)

    def predictive(
        self,
        rng_key: RNGKey,
        *args: Any,
        num_samples: int = 1_000,
        return_sites: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Array]:
        """Predict data for new arguments of the model, or replicate the data that were seen.

        Draws are resampled by their weights, and the model is run once for each of them::

            replicated = posterior.predictive(rng_key)["y"]
            predicted = posterior.predictive(rng_key, x_new)["y"]

        Args:
            rng_key: The same key gives the same predictions.
            *args: Positional arguments of the model to predict for, with None for the data. If
                there are no arguments at all, those of the training are used, and new values of
                the observed sites are drawn.
            num_samples: How many predictions.
            return_sites: Names of the sites to return; by default all that are not latent.
            **kwargs: Keyword arguments of the model to predict for, without the data.

        Returns:
            Values by site, shape (num_samples, ...).

        Raises:
            ValueError: if the target is a plain log density, or a site of `return_sites` is not
                made by the model, or the arguments hold the data that are to be predicted.

        Warns:
            ReliabilityWarning: if the draws are not to be trusted.
        """
        check_door("Posterior.predictive", rng_key, args, kwargs)
        num_samples = check_count("num_samples", num_samples, 1)
        target = model_of(self.target.base, "predictive")
        if args or kwargs:
            check_arguments(target.model, args, kwargs)
        if return_sites is not None:
            return_sites = check_names("return_sites", return_sites, str([*target.observed]))
        draw_key, resample_key, run_key = split(rng_key, 3)
        draws = self.sample(draw_key, num_samples)
        draws.warn_if_unreliable(stacklevel=3)
        resampled = draws.resample(resample_key, num_samples)
        model = target.model
        if not args and not kwargs:
            args, kwargs = target.model_args, target.model_kwargs
            model = handlers.uncondition(model)
            # Named one by one, since the model without its observations has its factors as sites.
            made = [*target.observed, *(name for name in resampled if name not in target.sites)]
            return_sites = made if return_sites is None else return_sites
        latents = {name: resampled[name] for name in target.sites}
        asked = [n for n in target.observed if return_sites is None or n in return_sites]
        predicted = run_on_given(run_key, target, model, latents, asked, return_sites, args, kwargs)
        unknown = [name for name in return_sites or () if name not in predicted]
        if unknown:
            raise ValueError(f"return_sites: the model makes no sites of the names {unknown}")
        return predicted

    def run_backward(
        self, rng_key: RNGKey, draws: Draws | Mapping[str, Any] | Float[Array, "num dim"]
    ) -> BackwardRuns:
        """Run the bridge backward from draws of the posterior that another sampler made.

        The EUBO and the ELBO bracket the log evidence. If the gap between them is wider than the
        forward weights explain, there is a part of the posterior that the bridge never visits::

            nuts.run(rng_key, ...)
            posterior.run_backward(rng_key, nuts.get_samples()).eubo

        Args:
            rng_key: A JAX key for the trajectories, one from each draw.
            draws: Values of the latent sites by name, one draw a row; or positions in the
                unconstrained coordinates of the model, shape `(num, dim)`; or an ArviZ object with
                a group `posterior`; or weighted `Draws` of another bridge, which are resampled
                first.

        Raises:
            ValueError: if a latent site is missing, or no draw is finite, or data that the model
                reads by itself have changed.

        Warns:
            ReliabilityWarning: if more than one in a hundred draws cannot be used.
        """
        check_door("Posterior.run_backward", rng_key, draws)
        self.target.base.check_unchanged()
        positions, log_weight = positions_and_weights(self.target.base, draws)
        if bool(jnp.any(log_weight != 0)):
            rng_key, resample_key = split(rng_key)
            smoothed = pareto_smooth(log_weight).log_weight
            positions = positions[resample_indices(resample_key, smoothed, len(positions))]
        inside = jnp.all(jnp.isfinite(positions), axis=1)
        log_weight, finite = backward_log_weights(rng_key, self.process, self.target, positions)
        usable = np.asarray(inside & finite & jnp.isfinite(log_weight))
        if not usable.any():
            raise ValueError(
                "none of the draws can be used: the log density or its gradient is not finite "
                "there; check that they are draws of this model's posterior"
            )
        if np.mean(~usable) > MAX_NON_FINITE_SHARE:
            warnings.warn(
                f"{np.sum(~usable)} of the {len(usable)} draws are left out, since the log density "
                "or its gradient is not finite there: they are hardly draws of this posterior",
                ReliabilityWarning,
                stacklevel=2,
            )
        log_scale = self.target.base.log_scale
        return BackwardRuns(log_weight[usable], int(np.sum(~usable)), log_scale)

    def chart_shares(
        self, draws: Draws | Mapping[str, Any] | Float[Array, "num dim"]
    ) -> Float[np.ndarray, " charts"]:
        """The share of draws on each chart, by the responsibilities of the charts.

        Args:
            draws: Draws of any of the kinds that `run_backward` takes.
        """
        positions, log_weight = positions_and_weights(self.target.base, draws)
        if isinstance(self.target, StandardisedTarget):
            return np.ones(1)
        log_shares = jax.vmap(self.target.partition.log_responsibilities)(positions)
        shares = np.asarray(jax.nn.softmax(log_weight) @ jnp.exp(log_shares))
        return shares[: self.target.num_charts]

    def _idle_training(self):
        """Warn of a training that hardly moved, since most of its updates were skipped."""
        skipped = self.report.num_skipped_updates or 0
        iterations = self.report.num_iterations or 0
        if 2 * skipped > iterations > 0:
            yield (
                f"{skipped} of the {iterations} updates of the training were not finite and were "
                "left out: the bridge is hardly trained. Use numpyro.enable_x64(), a smaller "
                "learning rate, or another loss."
            )

    def _notes(self) -> tuple[str, ...]:
        """Say what nobody looked for."""
        if self.atlas is not None:
            return self.atlas.notes
        return ("Nobody looked for several modes: one map serves the whole posterior.",)

    def as_distribution(self) -> Any:  # for type checkers no class of ours is one of NumPyro's
        """The posterior as a `PosteriorDistribution`, to be the prior of the next analysis.

        Raises:
            ValueError: if the process has no flow, since only `DiffusionSampler` trains one; or if
                there are several charts, each with a flow of its own.
        """
        flow, target = trained_flow(self.process, self.target)
        return PosteriorDistribution(flow, target.map, target.base)

    def as_guide(self, num_steps: int = 8) -> FlowGuide:
        """The flow as a guide for `numpyro.infer.reparam.NeuTraReparam`; it has no parameters.

        Args:
            num_steps: Steps of the flow; each evaluates the network twice.

        Raises:
            ValueError: if the process has no flow, or there are several charts, or there is no
                NumPyro model.
        """
        num_steps = check_count("num_steps", num_steps, 1, MOST_STEPS)
        return FlowGuide(*trained_flow(self.process, self.target), num_steps)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trained bridge and the model's data to one file, atomically.

        Load it with `nb.load(path, model)`. The model itself is code and is not saved. Of a process
        from outside this package only the arrays are saved, and `nb.load` needs its constructor.
        Where several processes did the run together, the first one writes.

        Args:
            path: The file to write; its folder is made if needed.

        Raises:
            ValueError: if the process holds a random key, or data that the model reads by itself
                have changed.
        """
        file_path("path", path)
        self.target.base.check_unchanged()
        if self.report.num_processes is not None and not is_first():
            return
        write_posterior(
            path,
            SavedPosterior(
                self.process,
                self.target,
                self.standardisation,
                self.metrics,
                self.report,
                self.atlas,
                self.doubts,
            ),
        )
