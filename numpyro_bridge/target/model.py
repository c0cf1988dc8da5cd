"""The posterior density of a NumPyro model, its data held as arguments of compiled code."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpyro import handlers

from numpyro_bridge._core.checks import check_count, check_key, check_mapping
from numpyro_bridge._core.keys import fold_in
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.target import model_density, model_values, remarks
from numpyro_bridge.target.alone import alone
from numpyro_bridge.target.arguments import Skeleton, take_out_arrays
from numpyro_bridge.target.base import Target, check_position
from numpyro_bridge.target.guarded import guarded_point, guarded_value
from numpyro_bridge.target.layout import Layout
from numpyro_bridge.target.point import Point, Prior
from numpyro_bridge.target.prior_draws import PriorDraws, finite_draws
from numpyro_bridge.target.readings import Reading, read
from numpyro_bridge.target.reference import Reference, Terms, reference_at
from numpyro_bridge.target.remarks import OddData
from numpyro_bridge.target.sites import (
    Repeatable,
    check_values,
    joined_in_order,
    unconstrained_value,
)
from numpyro_bridge.target.stale_copies import forget_stale_copies
from numpyro_bridge.target.starting_points import (
    StartingPoints,
    known_to_fail,
    search,
)


class ModelTarget(Target):
    """The posterior density of a NumPyro model; made by `target_from_model`.

    >>> target = nb.target_from_model(key, model, x, y=y)
    >>> target.sites
    {'w': (2,)}

    The arrays among the model's arguments are leaves of this pytree and everything else is static:
    a compiled function of a target is not compiled again for new data of the same shapes.

    A position holds the unconstrained values of the latent sites, flattened and joined in the order
    of `sites`, as in NumPyro's potential energy; the log density is minus that energy.
    """

    dim: int = eqx.field(static=True)
    arrays: tuple[Array, ...]
    _skeleton: Skeleton = eqx.field(static=True)
    _layout: Layout = eqx.field(static=True)
    data_are_constants: bool = eqx.field(static=True)
    """Whether the model needs numbers (`int(x.max())`): data are then built into compiled code."""
    odd_data: OddData = eqx.field(static=True, default=OddData())
    """What JAX silently makes of some of the data."""
    reading: Reading = eqx.field(static=True, default=Reading())
    """Digests of what the model reads besides its arguments, from globals, closures and objects:
    code that was compiled before such data changed is not used again."""
    points_have_prior: bool = eqx.field(static=True, default=False)
    """Whether each point carries the prior too, which costs another evaluation; `with_prior`."""
    reference: Reference | None = None
    """Where the log density is taken to be zero; None where its values are small enough."""

    def at(self, position: Vector) -> Point:
        check_position(position, self.dim)
        point = guarded_point(self._log_density, position, self.reading.most_at_once)
        if not self.points_have_prior:
            return point
        prior = guarded_point(self._log_prior, position, self.reading.most_at_once)
        return point._replace(prior=Prior(prior.log_density, prior.score))

    def log_density(self, position: Vector) -> Scalar:
        """Evaluate the log joint density (nats), with all log-determinants; see `reference`."""
        return guarded_value(self._log_density, position, self.reading.most_at_once)

    def log_prior(self, position: Vector) -> Scalar:
        """Evaluate the log density of the latent sites, with all log-determinants (nats).

        `log_prior` and `log_likelihood` sum to `log_density` where all three are finite.

        Raises:
            ValueError: if the model has discrete latent sites, whose sum does not split.
        """
        return guarded_value(self._log_prior, position, self.reading.most_at_once)

    def log_likelihood(self, position: Vector) -> Scalar:
        """Evaluate the log density of the data and of `numpyro.factor` (nats); see `log_prior`."""
        return guarded_value(self._log_likelihood, position, self.reading.most_at_once)

    def constrain(self, position: Vector) -> dict[str, Array]:
        """Turn a position into values of the latent and deterministic sites, by name.

        Left out are discrete sites that are summed out, and deterministic ones that depend on them.
        """
        return _constrained(self, position)

    def unconstrain(self, sites: dict[str, Any]) -> Vector:
        """Turn constrained values of all latent sites into a position.

        Args:
            sites: values by name; names that are not latent sites are ignored.

        Raises:
            ValueError: if a latent site is missing or has another shape.
        """
        check_mapping("sites", sites, "mcmc.get_samples()")
        sites_here = eqx.filter_eval_shape(_constrained, self, on_device(np.zeros(self.dim)))
        check_values({name: sites_here[name].shape for name in self.sites}, sites)
        return _unconstrained(self, {name: jnp.asarray(sites[name]) for name in self.sites})

    def prior_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"] | None:
        """Draw exactly from the prior of the latent sites.

        A draw that is not finite in unconstrained coordinates (a probability that rounds to zero)
        is replaced by another draw.

        Args:
            rng_key: a JAX key.
            num: how many.

        Returns:
            Positions, one a row; or None where the prior cannot be drawn: it is improper, masked or
            scaled, has discrete sites, or a distribution without a sampler.
        """
        check_key(rng_key)
        num = check_count("num", num, 0)
        if not self._layout.prior_can_be_drawn:
            return None
        try:
            positions, finite = finite_draws(rng_key, PriorDraws(self, num))
        except NotImplementedError:
            return None
        return None if known_to_fail(finite) else positions

    def starting_points(self, rng_key: RNGKey, num: int) -> StartingPoints:
        num = check_count("num", num, 0)
        found = super().starting_points(rng_key, num)
        if found.known_to_be_complete or not self._layout.prior_can_be_drawn:
            return found
        try:
            return search(fold_in(rng_key, 1), found, PriorDraws(self, num), self.at)
        except NotImplementedError:  # a distribution without a sampler
            return found

    def with_prior(self) -> "ModelTarget":
        if not self._layout.prior_can_be_drawn:
            raise ValueError(
                "A path from the prior needs a prior that can be drawn from and evaluated, and the "
                "prior of this model is improper, masked or scaled, or has discrete sites. Give "
                "the sites proper distributions, or use another initial distribution."
            )
        return replace(self, points_have_prior=True)

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        """Draw one position from the prior.

        An entry that rounding took to infinity (a probability of exactly one) becomes zero. That is
        not an exact draw, but it is too rare to matter.
        """
        (position,) = PriorDraws(self, 1)(rng_key)
        return jnp.where(jnp.isfinite(position), position, 0.0)

    def with_arguments(self, *args: Any, **kwargs: Any) -> "ModelTarget":
        """Make the target of the same model with other arguments.

        The sites must be the same for both, which is not checked. The arguments may be traced:
        inside `jax.vmap`, a batch of them makes a batch of targets.
        """
        arrays, skeleton = take_out_arrays((self.model, args, kwargs), self.data_are_constants)
        return replace(self, arrays=arrays, _skeleton=skeleton, reference=None).read_anew()

    def relative_to(self, position: Vector) -> "ModelTarget":
        reference = reference_at(position, lambda position: _terms(self, position))
        return replace(self, reference=reference)

    def read_anew(self) -> "ModelTarget":
        """The same target, after a look at the data that the model reads by itself."""
        return replace(self, reading=self._read_now())

    @property
    def doubts(self) -> tuple[str, ...]:
        return tuple(remarks.doubts(self.odd_data))

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(remarks.notes(self._layout, self.odd_data))

    @property
    def may_observe_data(self) -> bool:
        return self._layout.observes or self._layout.has_factors

    def reads_as_before(self) -> bool:
        return self._read_now().numbers == self.reading.numbers

    @alone
    def _read_now(self) -> Reading:
        forget_stale_copies(self.model)
        with handlers.block():  # a guide that asks has handlers of its own around it
            return read(_everything, replace(self, reference=None), on_device(np.zeros(self.dim)))

    def by_site(self, position: Vector) -> dict[str, Array]:
        """Cut a position into unconstrained values by name, as NumPyro's potentials take them."""
        check_position(position, self.dim)
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.sites.values()])
        pieces = zip(self.sites.items(), jnp.split(position, ends[:-1]), strict=True)
        return {name: piece.reshape(shape) for (name, shape), piece in pieces}

    def joined(self, values: Mapping[str, ArrayLike]) -> Vector:
        """Join unconstrained values by name into a position: the inverse of `by_site`.

        Raises:
            ValueError: if a site is missing or has another shape.
        """
        check_mapping("values", values, "target.by_site(position)")
        shapes = {name: jnp.shape(values[name]) for name in self.sites if name in values}
        if shapes != self.sites:
            raise ValueError(
                f"unconstrained values should have the shapes {self.sites}, by site, got "
                f"{ {name: jnp.shape(value) for name, value in values.items()} }"
            )
        return joined_in_order(self.sites, values)

    @property
    def model(self) -> Callable[..., Any]:
        """The NumPyro model, as it was given."""
        return self._arguments()[0]

    @property
    def model_args(self) -> tuple[Any, ...]:
        """The model's positional arguments, their arrays as JAX arrays.

        Where `data_are_constants`, they are the very objects that were given.
        """
        return self._arguments()[1]

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """The model's keyword arguments, like `model_args`."""
        return self._arguments()[2]

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """The unconstrained shape of each latent site, in the order of a position."""
        return dict(self._layout.shapes)

    @property
    def improper_sites(self) -> tuple[str, ...]:
        """The latent sites whose prior has no finite integral: `ImproperUniform`, or masked."""
        return self._layout.improper

    @property
    def has_evidence(self) -> bool:
        return not self.improper_sites

    @property
    def sums_out(self) -> bool:
        """Whether the model has discrete latent sites, over whose values the density is a sum."""
        return self._layout.sums_out

    @property
    def dims(self) -> dict[str, list[str]]:
        """Names of the leading axes of each latent, observed and deterministic site, from plates.

        Axes of an event have names where the model gives them, `infer={"event_dims": [...]}`. An
        axis without a name, left of one with a name, gets the name that ArviZ would give it.
        """
        return {name: list(names) for name, names in self._layout.dims}

    @property
    def observed(self) -> dict[str, Array]:
        """The data: the value of each observed site. Factors are not among them."""
        return _observed_values(self)

    def _arguments(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        return self._skeleton.filled_with(self.arrays)

    def _position_of(self, trace: dict[str, dict[str, Any]]) -> Vector:
        """Join the unconstrained values of the latent sites of a trace into a position."""
        latent = [trace[name] for name in self.sites]
        pieces = [unconstrained_value(site) for site in latent]
        return jnp.concatenate([jnp.ravel(piece).astype(float) for piece in pieces])

    def _placed(self, model: Callable[..., Any], position: Vector) -> Callable[..., Any]:
        """Put the latent sites of the model at a position, their log-determinants as factors."""
        return model_density.placed(model, self.by_site(position))

    def _log_density(self, position: Vector) -> Scalar:
        part = partial(model_density.log_joint, reference=self.reference)
        return self._evaluated(part, position).astype(position.dtype)

    def _log_prior(self, position: Vector) -> Scalar:
        return self._evaluated(model_density.log_prior, position).astype(position.dtype)

    def _log_likelihood(self, position: Vector) -> Scalar:
        part = partial(model_density.log_likelihood, reference=self.reference)
        return self._evaluated(part, position).astype(position.dtype)

    @alone
    def _evaluated(self, part: Callable[..., Any], position: Vector) -> Any:
        return part(*self._arguments(), self.by_site(position), self._layout)


# Compiled, because run step by step NumPyro would look at every number and object to some of them
# (a scale that underflows to zero), and because each is short once what it does not need is gone.


@eqx.filter_jit
def _terms(target: ModelTarget, position: Vector) -> Terms:
    return replace(target, reference=None)._evaluated(model_density.terms, position)


@eqx.filter_jit
def _constrained(target: ModelTarget, position: Vector) -> dict[str, Array]:
    return _constrained_now(target, position)


def _constrained_now(target: ModelTarget, position: Vector) -> dict[str, Array]:
    return target._evaluated(model_values.constrained, position)


def _everything(target: ModelTarget, position: Vector):
    """All that the model computes, free of compiled functions of this package."""
    return target._log_density(position), _constrained_now(target, position)


@eqx.filter_jit
@alone
def _unconstrained(target: ModelTarget, values: dict[str, Array]) -> Vector:
    model, args, kwargs = target._arguments()
    model = handlers.substitute(handlers.seed(Repeatable(model), 0), data=values)
    return target._position_of(handlers.trace(model).get_trace(*args, **kwargs))


@eqx.filter_jit
def _observed_values(target: ModelTarget) -> dict[str, Array]:
    return target._evaluated(model_values.observed, jnp.zeros(target.dim))
