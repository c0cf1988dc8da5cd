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
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.initialization import init_to_uniform

from numpyro_bridge._core.checks import check_function
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.maps import AbstractAffineMap, AbstractMap, as_dense, diagonal_map
from numpyro_bridge.atlas.standardisation import Standardisation, standardise
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.processes import CMCD, AbstractProcess
from numpyro_bridge.target import ModelTarget, Target, joined_in_order, target_from_model
from numpyro_bridge.target.arguments import holds_tracers
from numpyro_bridge.target.seen_data import SeenData
from numpyro_bridge.training.metrics import SVIMetrics
from numpyro_bridge.training.report import RunReport
from numpyro_bridge.trajectories.ends import draw_end

NUM_DRAWS = 4_000
"""Number of draws that medians and quantiles are computed from."""


class AutoBridge(AutoContinuous):
    r"""A bridge as a NumPyro guide, with the same processes and weights as `BridgeSampler`.

        guide = nb.AutoBridge(model)
        svi = SVI(model, guide, nb.bridge_optimizer(), nb.TraceReverseKLLD())
        result = svi.run(jax.random.key(0), 1_000, x, y=y)
        posterior = guide.to_posterior(result.params, result.losses)

    The guide draws a path with the forward chain and gives its end to the model. The rest of the
    path goes into the guide's own density, so that a loss of NumPyro sees for one particle

    $$\log p(x_K, y) - \log q = \log \overleftarrow{p}(x_{0:K}) - \log \vec{p}(x_{0:K}),$$

    which is the log weight of the path. So `Trace_ELBO` is the pathwise reverse divergence, with
    any number of steps. `TraceReverseKLLD` and the other losses of this package train faster.

    The guide belongs to the data of its first call, by `svi.init` or `svi.run`, since the score of
    their posterior steers the paths. With trained parameters it may be called with other arguments,
    as `Predictive` does for new covariates, and still draws from that posterior. To train on other
    data, make another guide. `svi.init`, `svi.run` and the losses of this package refuse other data
    (inside compiled code, other shapes); `Trace_ELBO` in a loop of `svi.update` cannot notice them.

    Draws of the guide are the bridge's own approximation. `to_posterior` returns what
    `BridgeSampler.run` would: weights, evidence, diagnostics, corrected draws for ArviZ.

    Args:
        model: A NumPyro model with continuous latent sites.
        process: Makes the process from `(rng_key, dim)`, such as `nb.CMCD` or
            `partial(nb.CMCD, num_steps=64)`.
        standardise: Chooses a map from `(rng_key, target)`, once, when the guide first sees the
            model. The map is kept with the parameters and is not trained.
        prefix: Begins the names of the guide's two parameters, the process and the map.
        init_loc_fn: One of NumPyro's initialisation strategies. If given, `standardise` is not
            called: the bridge starts from a normal distribution at that place, with standard
            deviation `init_scale` in every unconstrained coordinate.
        init_scale: See `init_loc_fn`; positive. Choose it about as large as the standard deviations
            of the posterior. With `standardise`, the default, there is nothing to choose.

    Raises:
        ValueError: at the first call, if the model has discrete latent sites or subsampled plates,
            or the call is inside `jax.jit`; later, if the guide is trained on other data. The
            message says what to write instead.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        process: Callable[..., AbstractProcess] = CMCD,
        standardise: Callable[[RNGKey, Target], Standardisation] = standardise,
        prefix: str = "auto",
        init_loc_fn: Callable[..., Any] | None = None,
        init_scale: float = 0.1,
    ):
        check_function("process", process, "nb.CMCD")
        check_function("standardise", standardise, "nb.standardise")
        if not init_scale > 0:
            raise ValueError(f"init_scale is a standard deviation, positive, got {init_scale}")
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn or init_to_uniform)
        self.process = process
        self.standardise = standardise
        self.init_scale = init_scale
        self._starts_from_location = init_loc_fn is not None
        self._target: ModelTarget | None = None
        self._seen: SeenData | None = None

    def bridge(self, params: Mapping[str, Any]) -> tuple[AbstractProcess, StandardisedTarget]:
        """The process that the parameters stand for, and the target that it runs on.

        Args:
            params: From `svi.get_params` or `result.params`.
        """
        names = self._names
        missing = [name for name in names if name not in params]
        if missing:
            raise ValueError(
                f"params should have {list(names)}, the parameters of this guide, but "
                f"{missing} are missing: it has {sorted(params)}. Was the guide made with "
                "another prefix?"
            )
        process, transform = (params[name] for name in names)
        # Losses that hold the states fixed give the map no gradient, so no loss trains it.
        return process, StandardisedTarget(self._seen_target, jax.lax.stop_gradient(transform))

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
        report = RunReport(type(process).__name__, "SVI")
        standardisation = self._standardisation_of(target.map)
        if losses is None:
            return Posterior(process, target, standardisation, None, report)
        metrics = SVIMetrics(-np.asarray(losses, np.float64))
        report = replace(report, num_iterations=len(losses))
        return Posterior(process, target, standardisation, metrics, report)

    def _standardisation_of(self, transform: AbstractMap) -> Standardisation:
        """How a map was chosen; that is not known if it came with another posterior."""
        chosen = self._standardisation
        if bool(eqx.tree_equal(transform, chosen.map)):
            return chosen
        return Standardisation(transform)

    def params_from(self, posterior: Posterior) -> dict[str, Any]:
        """Parameters to continue from a trained bridge, for `svi.run(..., init_params=...)`.

        Args:
            posterior: A trained posterior of the same model and data.

        Raises:
            ValueError: if the posterior has another dimension.
        """
        dim = self._seen_target.dim if self._target is not None else posterior.target.dim
        if posterior.target.dim != dim:
            raise ValueError(
                f"the posterior has {posterior.target.dim} dimensions and this guide's model "
                f"{dim}: it is that of another model"
            )
        if not isinstance(posterior.target, StandardisedTarget):
            raise ValueError(
                "the posterior has several charts and a guide has one map; make it with "
                "nb.BridgeSampler(model, process=nb.CMCD, standardise=nb.standardise)"
            )
        return dict(zip(self._names, (posterior.process, posterior.target.map), strict=True))

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
        sites = _draw_sites(rng_key, process, target, math.prod(sample_shape))
        shape = tuple(sample_shape)
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
        levels = jnp.asarray(quantiles, jnp.result_type(float))
        if not bool(jnp.all((levels >= 0) & (levels <= 1))):
            raise ValueError(f"quantiles are levels from 0 to 1, such as 0.05, got {quantiles}")
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
        return f"{self.prefix}_process", f"{self.prefix}_map"

    @property
    def _seen_target(self) -> ModelTarget:
        if self._target is None:
            raise ValueError(
                "this guide has not seen its model and data yet: call svi.run or svi.init with "
                "the model's arguments first"
            )
        return self._target

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        rng_key = _key_for("its first call")
        if holds_tracers((rng_key, args, kwargs)):
            raise ValueError(
                "AutoBridge reads the model and standardises it when it is first called, which "
                "cannot be done inside jax.jit, vmap or grad: call svi.init(rng_key, ...) outside, "
                "once, before anything is compiled"
            )
        read_key, map_key, process_key = jax.random.split(rng_key, 3)
        with handlers.block():
            target = target_from_model(read_key, self.model, *args, **kwargs)
            _refuse_sums(target)
            super()._setup_prototype(*args, **kwargs)
            if self._starts_from_location:
                chosen = _at_location(target.joined(self._init_locs), self.init_scale)
            else:
                chosen = self.standardise(map_key, target)
            process = self.process(process_key, target.dim)
        _check_leaves(process)
        self._target, self._standardisation = target, chosen
        self._seen = SeenData.of(self.model, args, kwargs)
        self._initial_values = dict(zip(self._names, (process, chosen.map), strict=True))

    def check_data(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Raise a ValueError unless these are the data that the guide was made for.

        Args:
            args: Positional arguments of the model.
            kwargs: Keyword arguments.
        """
        if self._seen is not None and not self._seen.are(self.model, args, kwargs):
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
        rng_key = _key_for("each call")
        with handlers.block():
            end = draw_end(rng_key, process, target)
        # The model adds the density of the end; the guide adds the rest of the log weight.
        numpyro.factor(f"{self.prefix}_path", end.log_density - end.log_weight)
        return joined_in_order(self._init_locs, target.base.by_site(end.position))


def _key_for(purpose: str) -> RNGKey:
    rng_key = numpyro.prng_key()
    if rng_key is None:
        raise ValueError(
            f"AutoBridge needs randomness for {purpose}: wrap it, as in "
            "numpyro.handlers.seed(guide, rng_seed=0)"
        )
    return rng_key


def _refuse_sums(target: ModelTarget) -> None:
    if target.sums_out:
        raise ValueError(
            "AutoBridge cannot guide a model with discrete latent sites: a loss of SVI asks the "
            "guide for their values, and a bridge has none. Use nb.BridgeSampler(model), which "
            "sums them out, or write the sum into the model (numpyro.factor, "
            "dist.MixtureSameFamily)."
        )


def _check_leaves(process: AbstractProcess) -> None:
    leaves = jax.tree.leaves(process)
    others = [type(leaf).__name__ for leaf in leaves if not eqx.is_inexact_array(leaf)]
    if others:
        raise ValueError(
            f"{type(process).__name__} becomes one NumPyro parameter, so all its leaves should be "
            f"arrays of floats, but some are {sorted(set(others))}: declare them with "
            "eqx.field(static=True)"
        )


def _at_location(location: Float[Array, " dim"], scale: float) -> Standardisation:
    """The map of a normal distribution at the place that an initialisation strategy chose."""
    location = location.astype(jnp.result_type(float))
    affine: AbstractAffineMap = diagonal_map(location, jnp.full_like(location, scale))
    return Standardisation(as_dense(affine))


@eqx.filter_jit
def _draw_sites(
    rng_key: RNGKey, process: AbstractProcess, target: StandardisedTarget, num: int
) -> dict[str, Array]:
    def draw(key):
        return target.base.constrain(draw_end(key, process, target).position)

    return jax.vmap(draw)(jax.random.split(rng_key, num))
