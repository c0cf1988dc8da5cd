"""AutoBridge: a bridge as a guide for NumPyro's SVI."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform

from numpyro_bridge._core.checks import check_array, check_instance, check_mapping
from numpyro_bridge._core.doors import check_unforked
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.untyped_bases import AutoContinuous
from numpyro_bridge.atlas.chart import Chart, Explore, chart
from numpyro_bridge.atlas.explore import explore
from numpyro_bridge.atlas.seen_target import (
    SeenTarget,
    first_map,
    seen_through,
    view_of,
    without_padding,
)
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.infer.drawing import draw_sites
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.seeing import (
    Seen,
    Standardise,
    check_stages,
    process_for_each_chart,
    see,
    stacked,
)
from numpyro_bridge.infer.svi.arguments import check_settings, checked_levels, checked_shape
from numpyro_bridge.infer.svi.first_look import (
    at_location,
    check_leaves,
    key_for,
    refuse_compiling,
    refuse_non_finite,
    refuse_sums,
)
from numpyro_bridge.processes import CMCD, AbstractProcess
from numpyro_bridge.target import ModelTarget, joined_in_order, target_from_model
from numpyro_bridge.target.seen_data import SeenData
from numpyro_bridge.training.metrics import SVIMetrics
from numpyro_bridge.training.report import RunReport
from numpyro_bridge.trajectories.ends import draw_end

NUM_DRAWS = 4_000
"""Number of draws that medians and quantiles are computed from."""


class AutoBridge(AutoContinuous):
    r"""A bridge as a NumPyro guide, with the same processes and weights as `BridgeSampler`.

    >>> from numpyro.infer import SVI
    >>> guide = nb.AutoBridge(model)
    >>> svi = SVI(model, guide, nb.bridge_optimizer(), nb.TraceReverseKLLD())

    Train it by `result = svi.run(rng_key, 1_000, x, y=y)`. Draws of the guide are the bridge's own
    approximation; `guide.to_posterior(result.params, result.losses)` returns what
    `BridgeSampler.run` would: weights, evidence, diagnostics, corrected draws for ArviZ.

    When the guide first sees the model, the posterior is explored and divided into charts, as by
    `BridgeSampler`, and each chart gets a bridge of its own. A draw chooses a chart by the charts'
    shares, which are not trained, and then a path.

    The guide draws a path with the forward chain and gives its end to the model. The rest of the
    path goes into the guide's own density, so that a loss of NumPyro sees for one particle

    $$\log p(x_K, y) - \log q = \log \overleftarrow{p}(x_{0:K}) - \log \vec{p}(x_{0:K}),$$

    which is the log weight of the chart and the path. So `Trace_ELBO` is the pathwise reverse
    divergence, with any number of steps. `TraceReverseKLLD` and the other losses of this package
    train faster, and train every chart in every iteration.

    The guide belongs to the data of its first call, by `svi.init` or `svi.run`, since the score of
    their posterior steers the paths. With trained parameters it may be called with other arguments,
    as `Predictive` does for new covariates, and still draws from that posterior. To train on other
    data, make another guide. `svi.init`, `svi.run` and the losses of this package refuse other data
    (inside compiled code, other shapes); `Trace_ELBO` in a loop of `svi.update` cannot notice them.

    Args:
        model: A NumPyro model with continuous latent sites.
        process: Makes the process from `(rng_key, dim)`, such as `nb.CMCD` or
            `partial(nb.CMCD, num_steps=64)`.
        explore: Finds the places to chart from `(rng_key, target)`.
        charts: Makes the atlas from `(rng_key, target, exploration)`. The charts are kept with the
            parameters and are not trained.
        standardise: Chooses a single map from `(rng_key, target)`, in place of exploration and
            charts: `nb.standardise`, or `nb.no_standardisation` for none.
        prefix: Begins the names of the guide's two parameters: the process, or those of all charts
            stacked, in `auto_process`; the charts, or the single map, in `auto_charts`.
        init_loc_fn: One of NumPyro's initialisation strategies. If given, there is a single map and
            nothing is explored: the bridge starts from a normal distribution at that place, with
            standard deviation `init_scale` in every unconstrained coordinate.
        init_scale: See `init_loc_fn`; positive. Choose it about as large as the standard deviations
            of the posterior. By default there is nothing to choose.

    Raises:
        ValueError: at the first call, if the model has discrete latent sites or subsampled plates,
            or the call is inside `jax.jit`; later, if the guide is trained on other data. The
            message says what to write instead.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        process: Callable[..., AbstractProcess[Any]] = CMCD,
        explore: Explore = explore,
        charts: Chart = chart,
        standardise: Standardise | None = None,
        prefix: str = "auto",
        init_loc_fn: Callable[..., Any] | None = None,
        init_scale: float = 0.1,
    ):
        check_stages(explore, charts, standardise)
        init_scale = check_settings(model, process, prefix, init_loc_fn, init_scale)
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn or init_to_uniform)
        self.process = process
        self.explore = explore
        self.charts = charts
        self.standardise = standardise
        self.init_scale = init_scale
        self._starts_from_location = init_loc_fn is not None
        self._target: ModelTarget | None = None
        self._data: SeenData | None = None

    def bridge(self, params: Mapping[str, Any]) -> tuple[AbstractProcess[Any], SeenTarget]:
        """The process that the parameters stand for, and the target that it runs on.

        Where there are several charts, the processes of all of them are stacked.

        Args:
            params: From `svi.get_params` or `result.params`.
        """
        check_mapping("params", params, "result.params")
        names = self._names
        missing = [name for name in names if name not in params]
        if missing:
            raise ValueError(
                f"params should have {list(names)}, the parameters of this guide, but "
                f"{missing} are missing: it has {sorted(params)}. Was the guide made with "
                "another prefix?"
            )
        process, view = (params[name] for name in names)
        # Losses that hold the states fixed give the charts no gradient, so no loss trains them.
        return process, seen_through(self._seen_target, jax.lax.stop_gradient(view))

    def to_posterior(
        self, params: Mapping[str, Any], losses: Float[Array, " iterations"] | None = None
    ) -> Posterior[SVIMetrics | None]:
        """Make the posterior that `BridgeSampler.run` would return for this bridge.

        It gives weights, evidence, diagnostics, files, and ArviZ objects:
        `nb.to_inference_data(guide.to_posterior(result.params).sample(rng_key))`.

        Args:
            params: From `svi.get_params` or `result.params`.
            losses: `result.losses`, if the posterior should have `metrics`.
        """
        process, target = self.bridge(params)
        refuse_non_finite(process)
        metrics, report = None, RunReport(type(process).__name__, "SVI")
        if losses is not None:
            check_array("losses", losses, "(iterations,)")
            metrics = SVIMetrics(-np.asarray(losses, np.float64))
            report = replace(report, num_iterations=len(losses))
        seen = self._origin_of(target)
        return Posterior(
            process=process,
            target=target,
            standardisation=seen.standardisation,
            metrics=metrics,
            report=report,
            atlas=seen.atlas,
            doubts=() if seen.atlas is None else seen.atlas.doubts,
        )

    def _origin_of(self, target: SeenTarget) -> Seen:
        """How the charts came about; that is not known if they came with another posterior."""
        view = view_of(target)
        if bool(eqx.tree_equal(view, self._initial_values[self._names[1]])):
            return self._found
        return Seen(target, Standardisation(first_map(view)), None, 0)

    def params_from(self, posterior: Posterior[Any]) -> dict[str, Any]:
        """Parameters to continue from a trained bridge, for `svi.run(..., init_params=...)`.

        Args:
            posterior: A trained posterior of the same model and data, on one chart or on several.

        Raises:
            ValueError: if the posterior has another dimension.
        """
        such_as = "nb.BridgeSampler(model).run(rng_key, x, y=y)"
        check_instance("posterior", posterior, Posterior, such_as)
        dim = self._seen_target.dim if self._target is not None else posterior.target.dim
        if posterior.target.dim != dim:
            raise ValueError(
                f"the posterior has {posterior.target.dim} dimensions and this guide's model "
                f"{dim}: it is that of another model"
            )
        view = without_padding(view_of(posterior.target))
        return dict(zip(self._names, (posterior.process, view), strict=True))

    def sample_posterior(
        self,
        rng_key: RNGKey,
        params: Mapping[str, Any],
        *args: Any,
        sample_shape: Sequence[int] = (),
        **kwargs: Any,
    ) -> dict[str, Array]:
        """Independent draws of all sites, deterministic ones included, in one batch.

        Args:
            rng_key: The same key gives the same draws.
            params: From `svi.get_params` or `result.params`.
            *args: Ignored, since the data are those of the first call.
            sample_shape: The leading axes of every site.
            **kwargs: Ignored as well.
        """
        process, target = self.bridge(params)
        shape = checked_shape(rng_key, sample_shape)
        sites = draw_sites(rng_key, process, target, math.prod(shape))
        return {name: x.reshape(shape + x.shape[1:]) for name, x in sites.items()}

    def median(self, params: Mapping[str, Any]) -> dict[str, Array]:
        """The median of every number over 4,000 draws of the guide, made with a fixed key."""
        return self.quantiles(params, 0.5)

    def quantiles(self, params: Mapping[str, Any], quantiles: Any) -> dict[str, Array]:
        """Quantiles of every number over 4,000 draws of the guide, made with a fixed key.

        Args:
            params: From `svi.get_params` or `result.params`.
            quantiles: One level in [0, 1], or an array of levels, which becomes a leading axis.

        Raises:
            ValueError: if a level is outside [0, 1].
        """
        levels = checked_levels(quantiles)
        draws = self.sample_posterior(jax.random.key(0), params, sample_shape=(NUM_DRAWS,))
        return {name: jnp.quantile(x, levels, axis=0) for name, x in draws.items()}

    def get_transform(self, params: Mapping[str, Any]) -> NoReturn:
        """Refuse, since the end of a random path is not a function of one vector of noise."""
        # In place of a NotImplementedError NeuTraReparam would show a message of its own.
        raise ValueError(
            "AutoBridge draws the ends of random paths, so there is no transformation of its "
            "draws, no base distribution, and no NeuTraReparam. To mix its draws with local moves "
            "of NUTS, use numpyro.infer.MCMC(nb.BridgeKernel(guide.to_posterior(params), "
            "local_kernel=NUTS), ...); for NeuTraReparam, a guide that is a flow: "
            "nb.DiffusionSampler(model).run(..., draws=...).as_guide()"
        )

    def get_base_dist(self) -> NoReturn:
        """Refuse, as `get_transform` does."""
        self.get_transform({})

    def get_posterior(self, params: Mapping[str, Any]) -> NoReturn:
        """Refuse, as `get_transform` does: the density of an end alone is not known."""
        self.get_transform(params)

    def _get_posterior(self) -> NoReturn:
        self.get_transform({})

    @property
    def _names(self) -> tuple[str, str]:
        return f"{self.prefix}_process", f"{self.prefix}_charts"

    @property
    def _seen_target(self) -> ModelTarget:
        if self._target is None:
            raise ValueError(
                "this guide has not seen its model and data yet: call svi.run or svi.init with "
                "the model's arguments first"
            )
        return self._target

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        check_unforked("AutoBridge")
        rng_key = key_for("its first call")
        refuse_compiling((rng_key, args, kwargs))
        read_key, map_key, process_key = jax.random.split(rng_key, 3)
        with handlers.block():
            target = target_from_model(read_key, self.model, *args, **kwargs)
            refuse_sums(target)
            super()._setup_prototype(*args, **kwargs)
            seen = self._look(map_key, target)
            process = stacked(process_for_each_chart(process_key, self.process, seen.target))
        check_leaves(process)
        self._target, self._found = target, seen
        self._data = SeenData.of(self.model, args, kwargs)
        # Some optimisers need finite numbers even of what they do not train: without padding.
        view = without_padding(view_of(seen.target))
        self._initial_values = dict(zip(self._names, (process, view), strict=True))

    def _look(self, rng_key: RNGKey, target: ModelTarget) -> Seen:
        """See the target on charts, or through one map, as the settings have it."""
        choose = self.standardise
        if self._starts_from_location:
            choose = at_location(target.joined(self._init_locs), self.init_scale)
        return see(
            rng_key,
            target,
            explore=self.explore,
            charts=self.charts,
            standardise=choose,
            trained=True,
        )

    def check_data(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise a ValueError unless these arguments are the data that the guide was made for."""
        same = self._data is None or self._data.are(self.model, args, kwargs)
        if not same or (self._target is not None and not self._target.reads_as_before()):
            raise ValueError(
                "this guide was made for other data, those of its first call, and its paths are "
                "steered by their posterior; for these data make another, nb.AutoBridge(model), "
                "and an SVI with it"
            )

    def _sample_latent(self, *args: Any, **kwargs: Any) -> Float[Array, " dim"]:
        def first_value(rng_key, value):
            self.check_data(args, kwargs)  # only called if there are no trained parameters yet
            return value

        params = {
            # NumPyro would take a value that can be called for the function that makes the value.
            name: numpyro.param(name, partial(first_value, value=value))
            for name, value in self._initial_values.items()
        }
        process, target = self.bridge(params)
        rng_key = key_for("each call")
        with handlers.block():
            end = draw_end(rng_key, process, target)
        # The model adds the density of the end; the guide adds the rest of the log weight.
        numpyro.factor(f"{self.prefix}_path", end.log_density - end.log_weight)
        return joined_in_order(self._init_locs, target.base.by_site(end.position))
