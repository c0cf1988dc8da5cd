"""A NumPyro model and its data as a target."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float
from numpyro import handlers
from numpyro.infer.util import (
    _unconstrain_reparam,
    compute_log_probs,
    constrain_fn,
    potential_energy,
)

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.target import reading as checks
from numpyro_bridge.target.base import (
    REPLACED_LOG_DENSITY,
    Point,
    Prior,
    Skeleton,
    Target,
    check_position,
    draw_until_finite,
    guarded_point,
    guarded_value,
    known_to_fail,
    repeat_good_rows,
    take_out_arrays,
)
from numpyro_bridge.target.no_start import no_starting_point


def target_from_model(
    rng_key: RNGKey, model: Callable, /, *args: Any, **kwargs: Any
) -> "ModelTarget":
    """Turn a NumPyro model and its data into a target.

    Any model that NUTS accepts is accepted: constrained and value-dependent supports, plates,
    factors, masks, scans, conditioned sites, improper priors, and discrete latent sites of finite
    support (summed out; needs the package funsor).

    Args:
        rng_key: a JAX key, for the search of a finite starting point, which shows that the model
            and its data go together.
        model: a function of NumPyro statements.
        *args: the model's arguments. Arrays become leaves of the target; numbers, strings and other
            objects become constants of compiled code.
        **kwargs: the model's keyword arguments.

    Returns:
        The posterior density on unconstrained vectors.

    Raises:
        ValueError: if the model has no such density, or no finite point can be found; the message
            says which site is the cause and what to write instead.
        ImportError: if discrete sites have to be summed out and funsor is not installed.
    """
    checks.check_arguments(model, args, kwargs)
    try:
        target = _read_model(model, args, kwargs)
    except checks.ModelRefusedError:
        raise
    except Exception as error:
        error.add_note(f"The model raised it when run on ({checks.described(args, kwargs)}).")
        raise
    positions, finite = draw_until_finite(rng_key, target, 8)
    if known_to_fail(finite):
        densities = jax.vmap(target.log_density)(positions)
        tried = [target.by_site(position) for position in positions[:3]]
        finite_density = bool(jnp.any(densities != REPLACED_LOG_DENSITY))
        raise no_starting_point(*target._arguments(), tried, finite_density)
    return target


def _read_model(model: Callable, args: tuple, kwargs: dict) -> "ModelTarget":
    """Hold the data as arguments of compiled code or, if the model needs numbers, as constants."""
    try:
        return _traced_target(model, args, kwargs, keep_constant=False)
    except (checks.ModelRefusedError, ImportError):
        raise
    except Exception:
        # A model that needs numbers can fail in any way. An error of another cause appears again
        # below, free of tracers.
        pass
    try:
        return _traced_target(model, args, kwargs, keep_constant=True)
    except checks.NUMBER_NEEDED_ERRORS as error:
        raise checks.number_needed(error) from error


def _traced_target(
    model: Callable, args: tuple, kwargs: dict, keep_constant: bool
) -> "ModelTarget":
    arrays, skeleton = take_out_arrays((model, args, kwargs), keep_constant)
    layouts = []

    def read(arrays):
        layouts.append(checks.read_layout(*skeleton.filled_with(arrays)))

    jax.eval_shape(read, arrays)  # no arithmetic is done, and the layout holds no arrays
    (layout,) = layouts
    dim = sum(int(np.prod(shape)) for _, shape in layout.shapes)
    target = ModelTarget(dim, arrays, skeleton, layout, keep_constant)
    position = jax.ShapeDtypeStruct((dim,), jnp.result_type(float))
    eqx.filter_eval_shape(lambda target, position: target.at(position), target, position)
    return target


class ModelTarget(Target):
    """The posterior density of a NumPyro model; made by `target_from_model`.

    The arrays among the model's arguments are leaves of this pytree and everything else is static:
    a compiled function of a target is not compiled again for new data of the same shapes.

    A position holds the unconstrained values of the latent sites, flattened and joined in the order
    of `sites`, as in NumPyro's potential energy; the log density is minus that energy.
    """

    dim: int = eqx.field(static=True)
    arrays: tuple[Array, ...]
    _skeleton: Skeleton = eqx.field(static=True)
    _layout: checks.Layout = eqx.field(static=True)
    data_are_constants: bool = eqx.field(static=True)
    """Whether the model needs numbers (`int(x.max())`, `np.unique(x)`). Its data are then built
    into compiled code, which is compiled anew for other data."""
    points_have_prior: bool = eqx.field(static=True, default=False)
    """Whether each point carries the prior too, which costs another evaluation; `with_prior`."""

    def at(self, position: Vector) -> Point:
        point = guarded_point(self._log_density, position)
        if not self.points_have_prior:
            return point
        prior = guarded_point(self._log_prior, position)
        return point._replace(prior=Prior(prior.log_density, prior.score))

    def log_density(self, position: Vector) -> Scalar:
        """Evaluate the log joint density (nats), with the log-determinants of all transforms."""
        return guarded_value(self._log_density, position)

    def log_prior(self, position: Vector) -> Scalar:
        """Evaluate the log density of the latent sites, with all log-determinants (nats).

        `log_prior` and `log_likelihood` sum to `log_density` where all three are finite.

        Raises:
            ValueError: if the model has discrete latent sites, whose sum does not split.
        """
        return guarded_value(self._log_prior, position)

    def log_likelihood(self, position: Vector) -> Scalar:
        """Evaluate the log density of the observed sites and of `numpyro.factor` (nats).

        Raises:
            ValueError: if the model has discrete latent sites, whose sum does not split.
        """
        return guarded_value(self._log_likelihood, position)

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
        missing = [name for name in self.sites if name not in sites]
        if missing:
            raise ValueError(f"Latent sites {missing} are missing; got values of {sorted(sites)}.")
        position = jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))
        sites_here = eqx.filter_eval_shape(lambda target, x: target.constrain(x), self, position)
        shapes = {name: sites_here[name].shape for name in self.sites}
        given = {name: jnp.shape(sites[name]) for name in self.sites}
        if given != shapes:
            raise ValueError(
                f"the latent sites have the shapes {shapes} at one draw, got {given}: several "
                "draws should be rows, one axis in front of every site"
            )
        return _unconstrained(self, {name: jnp.asarray(sites[name]) for name in self.sites})

    def prior_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"] | None:
        """Draw exactly from the prior of the latent sites.

        A draw that is not a finite unconstrained number (a probability that rounds to zero) is
        replaced by another draw.

        Args:
            rng_key: a JAX key.
            num: how many.

        Returns:
            Positions, one a row; or None where the prior cannot be drawn: it is improper, masked or
            scaled, has discrete sites, or a distribution without a sampler.
        """
        if not self._layout.prior_can_be_drawn:
            return None
        try:
            positions = _draw_prior(rng_key, self, num)
        except NotImplementedError:
            return None
        finite = jnp.all(jnp.isfinite(positions), axis=-1)
        return None if known_to_fail(finite) else repeat_good_rows(positions, finite)

    def with_prior(self) -> "ModelTarget":
        if not self._layout.prior_can_be_drawn:
            raise ValueError(
                "A path from the prior needs a prior that can be drawn from and evaluated; that of "
                "this model is improper, masked or scaled, or has discrete sites. Give the sites "
                "proper distributions, or use another initial law."
            )
        return replace(self, points_have_prior=True)

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        """Draw one position from the prior.

        An entry that rounding has taken to infinity (a probability of exactly one) is drawn as
        zero, which is as rare as it is wrong.
        """
        position = _draw_prior(rng_key, self, 1)[0]
        return jnp.where(jnp.isfinite(position), position, 0.0)

    def with_arguments(self, *args: Any, **kwargs: Any) -> "ModelTarget":
        """The same model with other arguments that leave its sites as they are, unchecked.

        Where the arguments are arrays of a batch, inside `jax.vmap`, so is the target.
        """
        arrays, skeleton = take_out_arrays((self.model, args, kwargs), self.data_are_constants)
        return replace(self, arrays=arrays, _skeleton=skeleton)

    def by_site(self, position: Vector) -> dict[str, Array]:
        """Cut a position into unconstrained values by name, as NumPyro's potentials take them."""
        check_position(position, self.dim)
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.sites.values()])
        pieces = zip(self.sites.items(), jnp.split(position, ends[:-1]), strict=True)
        return {name: piece.reshape(shape) for (name, shape), piece in pieces}

    def joined(self, values: Mapping[str, ArrayLike]) -> Vector:
        """The position of unconstrained values by name: the inverse of `by_site`.

        Raises:
            ValueError: if a site is missing or has another shape.
        """
        shapes = {name: jnp.shape(values[name]) for name in self.sites if name in values}
        if shapes != self.sites:
            raise ValueError(
                f"unconstrained values should have the shapes {self.sites}, by site, got "
                f"{ {name: jnp.shape(value) for name, value in values.items()} }"
            )
        return joined_in_order(self.sites, values)

    @property
    def model(self) -> Callable:
        """The model."""
        return self._arguments()[0]

    @property
    def model_args(self) -> tuple:
        """The model's positional arguments, their arrays as JAX arrays.

        Where `data_are_constants`, they are the very objects that were given.
        """
        return self._arguments()[1]

    @property
    def model_kwargs(self) -> dict:
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

    def _arguments(self) -> tuple[Callable, tuple, dict]:
        return self._skeleton.filled_with(self.arrays)

    def _position_of(self, trace: dict) -> Vector:
        """Join the unconstrained values of the latent sites of a trace into a position."""
        latent = [trace[name] for name in self.sites]
        pieces = [dist.biject_to(site["fn"].support).inv(site["value"]) for site in latent]
        return jnp.concatenate([jnp.ravel(piece).astype(float) for piece in pieces])

    def _placed(self, model: Callable, position: Vector) -> Callable:
        """The model with its latent sites at a position, and their log-determinants as factors."""
        reparam = partial(_unconstrain_reparam, self.by_site(position))
        return handlers.substitute(model, substitute_fn=reparam)

    def _log_density(self, position: Vector) -> Scalar:
        model, args, kwargs = self._arguments()
        model, sums_out = checks.Repeatable(model), self._layout.sums_out
        if sums_out:
            model = checks.enumerated(model, self._layout.num_plate_dims)
        energy = potential_energy(model, args, kwargs, self.by_site(position), enum=sums_out)
        return -jnp.asarray(energy, position.dtype)

    def _log_prior(self, position: Vector) -> Scalar:
        return self._sum_of_sites(position, in_prior=True)

    def _log_likelihood(self, position: Vector) -> Scalar:
        return self._sum_of_sites(position, in_prior=False)

    def _sum_of_sites(self, position: Vector, in_prior: bool) -> Scalar:
        if self._layout.sums_out:
            raise ValueError(
                "The density of a model with discrete latent sites is a sum over their values, and "
                "does not split into prior and likelihood. Use `log_density`, or write the sum "
                "into the model (numpyro.factor, dist.MixtureSameFamily)."
            )
        model, args, kwargs = self._arguments()
        model = self._placed(checks.Repeatable(model), position)
        terms, trace = compute_log_probs(model, args, kwargs, {})
        # A handler such as `scope` may put a prefix before the name of a log-determinant.
        log_dets = tuple(f"_{name}_log_det" for name in self.sites)
        is_prior = {n: not trace[n]["is_observed"] or n.endswith(log_dets) for n in terms}
        chosen = [term for name, term in terms.items() if is_prior[name] == in_prior]
        return jnp.asarray(sum(chosen, start=0.0), position.dtype)


# Compiled, because run step by step NumPyro would look at every number and object to some of them
# (a scale that underflows to zero), and because each is short once what it does not need is gone.


@eqx.filter_jit
def _constrained(target: ModelTarget, position: Vector) -> dict[str, Array]:
    model, args, kwargs = target._arguments()
    model = checks.Repeatable(model)
    if target._layout.sums_out:
        model = handlers.seed(model, 0)
    values = target.by_site(position)
    sites = constrain_fn(model, args, kwargs, values, return_deterministic=True)
    kept = {name: site for name, site in sites.items() if name not in target._layout.hidden}
    return jax.tree.map(jnp.asarray, kept)


@eqx.filter_jit
def _unconstrained(target: ModelTarget, values: dict[str, Array]) -> Vector:
    model, args, kwargs = target._arguments()
    model = handlers.substitute(handlers.seed(checks.Repeatable(model), 0), data=values)
    return target._position_of(handlers.trace(model).get_trace(*args, **kwargs))


@eqx.filter_jit
def _draw_prior(rng_key: RNGKey, target: ModelTarget, num: int) -> Float[Array, "{num} dim"]:
    def draw(rng_key: RNGKey) -> Vector:
        model, args, kwargs = target._arguments()
        seeded = handlers.seed(checks.Repeatable(model), rng_key)
        return target._position_of(handlers.trace(seeded).get_trace(*args, **kwargs))

    return jax.vmap(draw)(jax.random.split(rng_key, num))


@eqx.filter_jit
def _observed_values(target: ModelTarget) -> dict[str, Array]:
    model, args, kwargs = target._arguments()
    model = target._placed(handlers.seed(checks.Repeatable(model), 0), jnp.zeros(target.dim))
    trace = handlers.trace(model).get_trace(*args, **kwargs)
    return {
        name: jnp.asarray(site["value"])
        for name, site in trace.items()
        if site["type"] == "sample" and site["is_observed"] and not checks.is_factor(site)
    }


def joined_in_order(names: Iterable[str], values: Mapping[str, ArrayLike]) -> Vector:
    """One vector of the values of sites, in the order of `names`.

    A target joins them in the order of their names, NumPyro's guides in that of the model.
    """
    return jnp.concatenate([jnp.ravel(values[name]) for name in names])
