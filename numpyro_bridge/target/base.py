"""The interface of every target: a log density on flat vectors, and its named values."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from equinox import AbstractVar
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_count, check_key, check_mapping, described
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.target.point import Point
from numpyro_bridge.target.readings import Reading
from numpyro_bridge.target.reference import Reference
from numpyro_bridge.target.starting_points import (
    StartingPoints,
    UniformDraws,
    known_to_fail,
    no_starting_points,
    repeat_good_rows,
    search,
    why_nowhere,
)


class Target(eqx.Module):
    """An unnormalised density on flat vectors of `dim` real numbers.

    >>> float(target.log_density(jnp.array([3.0, 4.0])))
    -12.5
    >>> jax.vmap(target.log_density)(jnp.ones((5, target.dim))).shape
    (5,)

    Everything is written for one position, of shape (dim,) and type `jnp.result_type(float)`; use
    `jax.vmap` for batches.
    """

    dim: AbstractVar[int]

    @abstractmethod
    def at(self, position: Vector) -> Point:
        """Evaluate log density and score, in one pass, replacing what is not finite.

        Safe to differentiate once more: the derivative of what was replaced is zero.
        """

    @abstractmethod
    def log_density(self, position: Vector) -> Scalar:
        """Evaluate the log density alone (nats), `REPLACED_LOG_DENSITY` where it is not finite."""

    @abstractmethod
    def constrain(self, position: Vector) -> dict[str, Array]:
        """Turn a position into named values, deterministic sites included."""

    @property
    def innermost(self) -> "Target":
        """The target that was given, without the maps and wrappers that were put around it."""
        return self

    def from_model(self, position: Vector) -> Vector:
        """The position here of one in the model's own unconstrained coordinates."""
        return position

    def to_model(self, position: Vector) -> Vector:
        """The position in the model's own unconstrained coordinates; inverse of `from_model`."""
        return position

    def log_responsibility(self, position: Vector) -> Scalar | None:
        """Log of the share that this piece has of a density, at a position; None for the whole."""
        return None

    def by_site(self, position: Vector) -> Any:
        """Cut a position into unconstrained values, a pytree; here, the vector named "x"."""
        check_position(position, self.dim)
        return {"x": position}

    def joined(self, values: Any) -> Vector:
        """Join unconstrained values into a position: the inverse of `by_site`."""
        check_mapping("values", values, '{"x": position}')
        return values["x"]

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """The unconstrained shape of each latent site; empty where there is no NumPyro model."""
        return {}

    @property
    def observed(self) -> dict[str, Array]:
        """The value of each observed site; empty where there is no NumPyro model."""
        return {}

    @property
    def improper_sites(self) -> tuple[str, ...]:
        """The latent sites whose prior has no finite integral."""
        return ()

    def unconstrain(self, sites: dict[str, Any]) -> Vector:
        """Turn constrained values of all latent sites into a position.

        Raises:
            ValueError: if the target has no sites, or the values do not fit them.
        """
        raise ValueError(
            "the target is a log density, without sites: give draws as positions of shape "
            f"(num, {self.dim})"
        )

    @property
    def has_evidence(self) -> bool:
        """Whether the integral of the density means something (False under improper priors)."""
        return True

    @property
    def reference(self) -> Reference | None:
        """Where the log density is taken to be zero; None where it is what it is."""
        return None

    @property
    def log_scale(self) -> float:
        """What to add to a log density of this target to have that of the model, in nats."""
        return 0.0 if self.reference is None else self.reference.log_scale

    def absolute(self, log_density: Array) -> Array:
        """Log densities of the model, also inside compiled code; rounded where they are large."""
        return log_density if self.reference is None else log_density + self.reference.total.sum()

    def relative_to(self, position: Vector) -> "Target":
        """The same target, its log density taken to be zero at a position, if it can be."""
        return self

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences about why the density is not the one that was meant; part of every verdict."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a user should know, without reason for doubt; part of every verdict."""
        return ()

    @property
    def may_observe_data(self) -> bool:
        """Whether some of the density may be that of data."""
        return True

    @property
    def reading(self) -> Reading:
        """Digests of what one evaluation computes."""
        return Reading()

    @property
    def has_loops(self) -> bool:
        """Whether some positions may take far longer than others, as with an adaptive solver.

        A batch takes as long as its slowest, so that such a target is explored one position after
        the other, not far from where its prior draws.
        """
        return self.reading.has_loops

    @property
    def num_bytes(self) -> int:
        """Bytes that one evaluation makes on its way: large where there are many data."""
        return self.reading.num_bytes

    def reads_as_before(self) -> bool:
        """Whether data that a model reads by itself, from a global, are those of the beginning."""
        return True

    def check_unchanged(self) -> None:
        """Raise a ValueError unless the target reads the data that it was made with."""
        if not self.reads_as_before():
            raise ValueError(
                "the model reads data that are not among its arguments (a global, a variable of an "
                "outer function, or an attribute), and these, or the precision of JAX, have "
                "changed since the target was made: pass them as arguments of the model, or run "
                "the sampler again"
            )

    def with_prior(self) -> "Target":
        """Make the same target with points that carry the prior, and a prior to draw from.

        Raises:
            ValueError: if it has no prior, or one that cannot be drawn from.
        """
        raise ValueError(
            "a path from the prior needs a prior that can be drawn from and evaluated, and "
            f"{type(self).__name__} has none; use a NumPyro model, or another initial distribution"
        )

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        """Draw one position from the prior; for targets made by `with_prior`."""
        return self.with_prior().draw_prior(rng_key)

    def prior_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"] | None:
        """Draw exactly from the prior of the latent sites.

        Args:
            rng_key: a JAX key.
            num: how many.

        Returns:
            Finite positions, one a row; or None where there is no prior that can be drawn from.
        """
        check_key(rng_key)
        check_count("num", num, 0)
        return None

    def starting_points(self, rng_key: RNGKey, num: int) -> StartingPoints:
        """Search for starting points, and tell which were found; see `initial_positions`."""
        check_key(rng_key)
        num = check_count("num", num, 0)
        draw = UniformDraws(num, self.dim)
        return search(rng_key, no_starting_points(num, self.dim), draw, self.at)

    def initial_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"]:
        """Find starting points where log density and score are finite, the way NUTS does.

        Each is uniform on (-2, 2)^dim, drawn again up to 100 times while it is not finite, then up
        to 100 times from the prior, if there is one to draw from. Where neither succeeds, the point
        of another one is repeated.

        Args:
            rng_key: a JAX key.
            num: how many.

        Returns:
            Positions, one a row.

        Raises:
            ValueError: if no draw is finite. (Inside jit, pmap or vmap the outcome is not known,
                and nothing is raised.)
        """
        check_key(rng_key)
        num = check_count("num", num, 0)
        found = self.starting_points(rng_key, num)
        if found.known_to_be_complete:
            return found.positions
        if known_to_fail(found.finite):
            raise ValueError(why_nowhere(num, of_model=bool(self.sites)))
        return repeat_good_rows(found.positions, found.finite)


class TargetWrapper(Target):
    """A target around another one, which it follows in all that a subclass does not change.

    >>> class Named(nb.target.TargetWrapper):
    ...     base: nb.target.Target
    ...
    ...     def constrain(self, position):
    ...         return {"rate": jnp.exp(position[0]), "height": position[1]}
    >>> sampler = nb.BridgeSampler(Named(target))
    """

    base: AbstractVar[Target]

    @property
    def dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The number of dimensions of the target inside."""
        return self.base.dim

    def at(self, position: Vector) -> Point:
        return self.base.at(position)

    def log_density(self, position: Vector) -> Scalar:
        return self.base.log_density(position)

    def constrain(self, position: Vector) -> dict[str, Array]:
        return self.base.constrain(position)

    @property
    def innermost(self) -> Target:
        return self.base.innermost

    def from_model(self, position: Vector) -> Vector:
        return self.base.from_model(position)

    def to_model(self, position: Vector) -> Vector:
        return self.base.to_model(position)

    def log_responsibility(self, position: Vector) -> Scalar | None:
        return self.base.log_responsibility(position)

    def by_site(self, position: Vector) -> Any:
        return self.base.by_site(position)

    def joined(self, values: Any) -> Vector:
        return self.base.joined(values)

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        return self.base.sites

    @property
    def observed(self) -> dict[str, Array]:
        return self.base.observed

    @property
    def improper_sites(self) -> tuple[str, ...]:
        return self.base.improper_sites

    def unconstrain(self, sites: dict[str, Any]) -> Vector:
        return self.base.unconstrain(sites)

    @property
    def has_evidence(self) -> bool:
        return self.base.has_evidence

    @property
    def reading(self) -> Reading:
        return self.base.reading

    @property
    def reference(self) -> Reference | None:
        return self.base.reference

    def relative_to(self, position: Vector) -> "TargetWrapper":
        base = self.base.relative_to(self.to_model(position))
        return eqx.tree_at(lambda wrapper: wrapper.base, self, base)

    def with_prior(self) -> "TargetWrapper":
        return eqx.tree_at(lambda wrapper: wrapper.base, self, self.base.with_prior())

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        return self.base.draw_prior(rng_key)

    def prior_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"] | None:
        return self.base.prior_positions(rng_key, num)

    def starting_points(self, rng_key: RNGKey, num: int) -> StartingPoints:
        return self.base.starting_points(rng_key, num)


def check_position(position: Any, dim: int) -> None:
    """Raise a ValueError unless this is one position."""
    dtype = getattr(position, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"position must be an array of {dim} floating-point numbers, such as "
            f"jnp.zeros({dim}), got {described(position)}"
        )
    if position.shape != (dim,):
        raise ValueError(
            f"position must be one position of shape ({dim},), got shape {position.shape}. For a "
            "batch of positions, use jax.vmap."
        )
