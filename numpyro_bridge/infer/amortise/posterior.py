"""AmortisedPosterior: the posteriors of all data that a model may make, learned once."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.checks import check_function
from numpyro_bridge._core.descriptions import describe_whole
from numpyro_bridge._core.doors import check_door, check_here, check_unforked
from numpyro_bridge._core.precision import in_present_precision
from numpyro_bridge._core.storage import load_header, load_parts, save_parts
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.writing import file_path
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.draws.calibration import Calibration, calibration_of, checked_numbers
from numpyro_bridge.draws.corrections import Correction, check_correction
from numpyro_bridge.draws.verdict import ReliabilityWarning
from numpyro_bridge.infer.amortise.conditional_bridge import ConditionalBridge
from numpyro_bridge.infer.amortise.conditional_training import simulated
from numpyro_bridge.infer.amortise.context import Context, Summaries, all_values, flattened
from numpyro_bridge.infer.amortise.ranks import ranked_runs
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.target import ModelTarget, target_from_model
from numpyro_bridge.target.fingerprint import difference, fingerprint, shapes
from numpyro_bridge.target.simulation import shown_data, target_of_data, with_data
from numpyro_bridge.training.metrics import LossMetrics
from numpyro_bridge.training.report import RunReport

SAME_DENSITY = 1e-4
"""Log densities that differ by less than this share are equal but for rounding."""


@dataclass(frozen=True, eq=False, repr=False)
class AmortisedPosterior:
    """The posterior as a function of the data; made by `DiffusionSampler.amortise`.

    >>> amortised
    AmortisedPosterior(data: {'y': (6,)}, dim=2, num_simulations=20000)
    >>> posterior = amortised.condition(x, y=y)

    `print(amortised.calibrate(rng_key))` tells how well it was learned.

    Attributes:
        model: The NumPyro model.
        target: The target whose data can be replaced; it holds those of the training call.
        bridge: The networks.
        num_steps: Number of steps of the process that `condition` makes.
        summaries: What the networks are shown of the data.
        metrics: The loss of the denoiser in every training iteration, on held-out simulations.
        normal_metrics: The loss of the normal distribution that the denoiser starts from, in every
            training iteration: minus the mean log density of held-out simulations, in units of the
            prior.
        report: How the networks were trained and what that cost.
    """

    model: Callable[..., Any]
    target: ModelTarget
    bridge: ConditionalBridge
    num_steps: int
    summaries: Summaries
    metrics: LossMetrics
    normal_metrics: LossMetrics
    report: RunReport = RunReport()

    def __repr__(self) -> str:
        """Say what is inside, not every number."""
        shapes = {name: value.shape for name, value in self._data.items()}
        num = self.report.num_simulations
        return f"AmortisedPosterior(data: {shapes}, dim={self.target.dim}, num_simulations={num})"

    @property
    def _data(self) -> dict[str, Any]:
        return self.target.model_args[0]

    def condition(self, *args: Any, **kwargs: Any) -> Posterior[LossMetrics]:
        """The posterior given data, without any training.

        Weights and evidence are those of the model with these data, however poor the networks are.
        Where the simulations have not prepared the networks for such data, k-hat shows it.

        Args:
            *args: Positional arguments of the model, with the shapes of the training call.
            **kwargs: Keyword arguments of the model, with the shapes of the training call.

        Returns:
            A posterior like any other, which can be sampled, saved and used to predict.

        Raises:
            ValueError: if the data have other shapes.

        Warns:
            ReliabilityWarning: if the data lie beyond all simulations, or if arguments other than
                the data differ from those of the training call, since the networks do not read
                them.
        """
        check_here("AmortisedPosterior.condition", args, kwargs)
        target = target_from_model(jax.random.key(0), self.model, *args, **kwargs)
        self._check_same_sites(target)
        values = flattened(self.summaries, shown_data(target))
        transform = self.bridge.map(values)
        # Not at the mean: where coefficients are zero there, covariates do not change the density.
        for doubt in self._doubts(target, values, transform(jnp.ones(target.dim))):
            warnings.warn(f"{doubt} Check k-hat.", ReliabilityWarning, stacklevel=2)
        return Posterior(
            self.bridge.process(values, self.num_steps),
            StandardisedTarget(target, transform),
            Standardisation(transform),
            self.metrics,
            self.report,
        )

    def calibrate(
        self,
        rng_key: RNGKey,
        *,
        num_simulations: int = 300,
        num_draws: int = 99,
        correction: Correction = None,
    ) -> Calibration:
        """Simulation-based calibration: rank the true values of new simulations among draws.

        All simulations are run in one compiled program. `nb.calibrate`, which calibrates any
        sampler and this one too, runs one after the other.

        Args:
            rng_key: The same key gives the same ranks.
            num_simulations: Number of data sets, each simulated from its own draw of the prior.
            num_draws: Number of draws given each data set.
            correction: None to judge the networks. `"metropolis"` or `"psis"`, as in
                `nb.to_inference_data`, to judge corrected draws, made from ten times as many, which
                takes ten times as long. Ranks are not uniform where a data set has few effective
                draws.

        Raises:
            ValueError: if a number is below 20, or most simulations are not finite.
        """
        check_door("AmortisedPosterior.calibrate", rng_key)
        check_correction(correction)
        num_simulations, num_draws = checked_numbers(num_simulations, num_draws)
        simulate_key, draw_key = jax.random.split(rng_key)
        before = time.perf_counter()
        truth = simulated(simulate_key, self.target, num_simulations, self.summaries)
        runs = ranked_runs(
            draw_key, self.bridge, self.target, truth, self.num_steps, num_draws, correction
        )
        found = calibration_of(
            runs,
            num_draws,
            correction,
            judged=correction is not None,
            num_replaced=truth.num_unusable,
        )
        return replace(found, seconds=np.asarray([time.perf_counter() - before]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the networks and the arguments of the training call to one file, atomically.

        Read it with `nb.load_amortised(path, model)`. The model and the summaries are code and are
        not saved. Of a network from outside this package only the arrays are saved, and
        `load_amortised` needs the constructor of the denoiser.

        Args:
            path: The file to write; its folder is made if needed.

        Raises:
            ValueError: if an argument of the model is not an array, a number, a string or a
                container of them.
        """
        file_path("path", path)
        arguments = self.target.model_args[1:]
        describe_whole(arguments, [])
        parts = {
            "scale": self.bridge.scale,
            "unit_map": self.bridge.unit_map,
            "normal": self.bridge.normal,
            "denoiser": self.bridge.denoiser,
            "arguments": arguments,
            "metrics": (self.metrics, self.normal_metrics),
        }
        header = {
            "kind": "posterior of all data",
            "version": version("numpyro-bridge"),
            "sites": shapes(self.target.sites),
            "dim": self.target.dim,
            "num_features": self.bridge.scale.size,
            "fingerprint": fingerprint(self.target),
            "num_steps": self.num_steps,
            "report": self.report.attributes(),
        }
        save_parts(path, header, parts)

    def _check_same_sites(self, target: ModelTarget) -> None:
        shapes = {name: value.shape for name, value in target.observed.items()}
        learned = {name: value.shape for name, value in self._data.items()}
        if shapes != learned:
            raise ValueError(
                f"the networks have learned from data of shapes {learned}, and these have "
                f"{shapes}; pass data of those shapes, or amortise anew"
            )
        if target.sites != self.target.sites:
            raise ValueError(
                f"the model has the latent sites {target.sites} with these arguments, and had "
                f"{self.target.sites} with those of the training call; amortise anew"
            )

    def _doubts(self, target: ModelTarget, values: Context, position):
        """Warn of data, or of other arguments, that the networks were not trained for."""
        num_beyond = self.bridge.scale.num_beyond(values)
        if num_beyond > 0:
            yield (
                f"{num_beyond} of the {values.size} numbers that describe the data lie beyond "
                "those of all simulations: the networks extrapolate."
            )
        elif self.bridge.scale.is_far(values):
            yield (
                "The data as a whole are unlike those of all simulations, though each number is in "
                "their range: the networks extrapolate."
            )
        trained = with_data(self.target, target.observed).log_density(position)
        if not np.isclose(trained, target.log_density(position), rtol=SAME_DENSITY, atol=1e-3):
            yield (
                "With these arguments the same data have another log joint density than with those "
                "of the training call: covariates or settings differ, and the networks do not read "
                "these."
            )


def load_amortised(
    path: str | os.PathLike[str],
    model: Callable[..., Any],
    *,
    summaries: Summaries = all_values,
    denoiser: Callable[..., Denoiser] | None = None,
) -> AmortisedPosterior:
    """Read what `AmortisedPosterior.save` wrote, into the precision that JAX works in now.

    >>> amortised.save("seeds.amortised")
    >>> amortised = nb.load_amortised("seeds.amortised", model)

    Args:
        path: The file.
        model: The NumPyro model that the networks were trained for.
        summaries: The function that was passed to `amortise`.
        denoiser: The constructor from `(rng_key, dim, context_size=...)` that was passed to the
            sampler. It is needed only if its network is of a class outside this package.

    Raises:
        ValueError: if the file is of another kind, or the model has other sites or another density,
            or `denoiser` is missing or makes something else than the file holds.
    """
    check_unforked("nb.load_amortised")
    file_path("path", path)
    check_function("model", model, "a NumPyro model")
    check_function("summaries", summaries, "a function of the observed values by site")
    if denoiser is not None:
        check_function("denoiser", denoiser, "nb.diffusion.untrained_denoiser")
    header = load_header(path)
    if header.get("kind") != "posterior of all data":
        raise ValueError(
            f"{os.fspath(path)!r} holds a {header.get('kind')}, not an amortised posterior; read a "
            "posterior with nb.load(path, model)"
        )
    parts = load_parts(path, {"denoiser": _denoiser_maker(denoiser, header)})
    args, kwargs = parts["arguments"]
    target = target_from_model(jax.random.key(0), model, *args, **kwargs)
    own = target_of_data(jax.random.key(0), target)
    _check_same_model(path, header, own, flattened(summaries, shown_data(target)).size)
    bridge = ConditionalBridge(
        parts["scale"], parts["unit_map"], parts["normal"], parts["denoiser"]
    )
    metrics, normal_metrics = jax.tree.map(np.asarray, parts["metrics"])
    return AmortisedPosterior(
        model,
        own,
        in_present_precision(bridge),
        header["num_steps"],
        summaries,
        metrics,
        normal_metrics,
        RunReport.from_attributes(header["report"]),
    )


def _denoiser_maker(denoiser: Callable[..., Denoiser] | None, header: dict[str, Any]):
    """A function that makes a denoiser of the sizes in a file, if there is a constructor."""
    if denoiser is None:
        return None
    size = header["num_features"]
    return partial(denoiser, jax.random.key(0), header["dim"], context_size=size)


def _check_same_model(path, header: dict[str, Any], target: ModelTarget, num: int) -> None:
    """Raise a ValueError unless model and summaries are those that the networks learned from."""
    if (shapes(target.sites), num) != (header["sites"], header["num_features"]):
        raise ValueError(
            f"model and summaries make the sites {target.sites} and {num} numbers of the data, and "
            f"in {os.fspath(path)!r} there are {header['sites']} and {header['num_features']}; "
            "pass those that it was saved with"
        )
    other = difference(header["fingerprint"], fingerprint(target))
    if other is not None:
        raise ValueError(
            f"{other} when {os.fspath(path)!r} was written: pass the model that was learned from, "
            "or amortise this one anew"
        )
