"""What every sampler aims at: a log density on flat vectors, with non-finite numbers replaced."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from equinox import AbstractVar
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.types import RNGKey, Scalar, Vector

Rows = TypeVar("Rows")

REPLACED_LOG_DENSITY = -1e10
"""Takes the place of a log density that is not finite.

An importance weight of exp(-1e10) is exactly zero in every precision, the number itself is exact in
float32 (1e10 = 2^10 · 5^10), and its square, which variance losses take, stays far below the
largest float32 even when summed over millions of trajectories.
"""


class Prior(NamedTuple):
    """The prior at a position, for samplers that start from it."""

    log_density: Float[Array, ""]
    """Normalised, in nats; finite, like that of the point."""
    score: Float[Array, " dim"]


class Point(NamedTuple):
    """A position and what is costly to know about it, evaluated once."""

    position: Float[Array, " dim"]
    log_density: Float[Array, ""]
    """Unnormalised, in nats. Always finite: `REPLACED_LOG_DENSITY` where it was not."""
    score: Float[Array, " dim"]
    """The gradient of the log density. Always finite: zeros where `finite` is False."""
    finite: Bool[Array, ""]
    """False where the log density or an entry of the score was not finite, and was replaced."""
    momentum: Float[Array, " dim"] | None = None
    """Set by the samplers whose states have one; the target knows nothing of it."""
    prior: Prior | None = None
    """Set by targets that were asked for it, see `Target.with_prior`."""


class Target(eqx.Module):
    """An unnormalised density on flat vectors of `dim` real numbers.

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

    def from_model(self, position: Vector) -> Vector:
        """The position here of one in the model's own unconstrained coordinates."""
        return position

    def with_prior(self) -> "Target":
        """The same target, whose points carry the prior and which can draw from it.

        Raises:
            ValueError: if it has no prior, or one that cannot be drawn from.
        """
        raise ValueError(
            "a path from the prior needs a prior that can be drawn from and evaluated, and "
            f"{type(self).__name__} has none; use a NumPyro model, or another initial law"
        )

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        """One position from the prior; for targets made by `with_prior`."""
        return self.with_prior().draw_prior(rng_key)

    def by_site(self, position: Vector) -> Any:
        """Cut a position into unconstrained values, a pytree; here, the vector named "x"."""
        return {"x": position}

    def joined(self, values: Any) -> Vector:
        """The position of unconstrained values: the inverse of `by_site`."""
        return values["x"]

    @property
    def has_evidence(self) -> bool:
        """Whether the integral of the density means something (False under improper priors)."""
        return True

    def initial_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"]:
        """Find starting points where log density and score are finite, the way NUTS does.

        Each is uniform on (-2, 2)^dim, drawn again up to 100 times while it is not finite. Where
        that never succeeds, the point of another one is repeated.

        Args:
            rng_key: a JAX key.
            num: how many.

        Returns:
            Positions, one a row.

        Raises:
            ValueError: if no draw is finite. (Inside jit, pmap or vmap the outcome is not known,
                and nothing is raised.)
        """
        positions, finite = draw_until_finite(rng_key, self, num)
        if known_to_fail(finite):
            raise ValueError(
                f"No starting point with a finite log density and gradient in 100 rounds of {num} "
                "uniform draws on (-2, 2)^dim. Check the log density there, or shift and rescale "
                "its argument."
            )
        return repeat_good_rows(positions, finite)


class TargetWrapper(Target):
    """A target inside another, which is what the inner one is unless a subclass says otherwise."""

    base: AbstractVar[Target]

    @property
    def dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the target inside."""
        return self.base.dim

    def at(self, position: Vector) -> Point:
        return self.base.at(position)

    def log_density(self, position: Vector) -> Scalar:
        return self.base.log_density(position)

    def constrain(self, position: Vector) -> dict[str, Array]:
        return self.base.constrain(position)

    def from_model(self, position: Vector) -> Vector:
        return self.base.from_model(position)

    def with_prior(self) -> "TargetWrapper":
        return eqx.tree_at(lambda wrapper: wrapper.base, self, self.base.with_prior())

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        return self.base.draw_prior(rng_key)

    @property
    def has_evidence(self) -> bool:
        return self.base.has_evidence


@eqx.filter_jit
def draw_until_finite(
    rng_key: RNGKey, target: Target, num: int
) -> tuple[Float[Array, "{num} dim"], Bool[Array, "{num}"]]:
    """Draw uniform positions, up to 100 times where they are not finite; tell which are."""

    def unfinished(state):
        tries, _, _, finite = state
        return (tries < 100) & ~jnp.all(finite)

    def draw_again(state):
        tries, rng_key, positions, finite = state
        rng_key, draw_key = jax.random.split(rng_key)
        candidates = jax.random.uniform(draw_key, positions.shape, minval=-2.0, maxval=2.0)
        positions = jnp.where(finite[:, None], positions, candidates)
        return tries + 1, rng_key, positions, finite | jax.vmap(target.at)(candidates).finite

    start = (jnp.array(0), rng_key, jnp.zeros((num, target.dim)), jnp.zeros(num, bool))
    _, _, positions, finite = jax.lax.while_loop(unfinished, draw_again, start)
    return positions, finite


def known_to_fail(good: Bool[Array, " num"]) -> bool:
    """Whether none is good, as far as that is known: not inside a JAX transformation."""
    return not isinstance(good, Tracer) and not bool(good.any())


@jax.jit
def repeat_good_rows(rows: Rows, good: Bool[Array, " num"]) -> Rows:
    """Overwrite each row that is not good by one that is, taking the good ones in turn.

    Args:
        rows: A pytree of arrays whose leading axis counts rows.
        good: Which rows to keep.
    """
    good_first = jnp.argsort(~good, stable=True)
    turn = (jnp.cumsum(~good) - 1) % jnp.maximum(jnp.sum(good), 1)
    index = jnp.where(good, jnp.arange(len(good)), good_first[turn])
    return jax.tree.map(lambda leaf: leaf[index], rows)


def check_position(position: Array, dim: int) -> None:
    """Raise if this is not one position."""
    if position.shape != (dim,):
        raise ValueError(
            f"Expected one position of shape ({dim},), got shape {position.shape}. For a batch of "
            "positions, use jax.vmap."
        )


# A log density in the functions below is a pytree, such as a bound method of an `eqx.Module`: its
# arrays pass through the custom derivative as arguments.


def guarded_point(log_density: Callable[[Vector], Scalar], position: Vector) -> Point:
    """Evaluate value and gradient once, replacing what is not finite.

    A value whose gradient is not finite is kept: weights need the value only, and stay exact
    whatever drift stands in for the gradient.
    """
    (value, score), finite = _guarded(position, log_density, True)
    return Point(position, value, score, finite)


def guarded_value(log_density: Callable[[Vector], Scalar], position: Vector) -> Scalar:
    """Evaluate the value alone; replace it where it is not finite."""
    (value,), _ = _guarded(position, log_density, False)
    return value


@eqx.filter_custom_jvp
def _guarded(position: Vector, log_density: Callable[[Vector], Scalar], with_score: bool):
    values = _evaluate(position, log_density, with_score)
    return _replace(values), _all_finite(values)


@_guarded.def_jvp
def _guarded_jvp(primals, tangents):
    # What was replaced is constant. A `where` behind the density does not suffice for that: going
    # backward, its zero meets the infinite derivatives inside and becomes NaN. So the tangents
    # pass a second `where` before the density.
    def is_none(leaf):
        return leaf is None

    def keep(moving: bool):
        def choose(tangent, primal):
            return primal if (tangent is not None) == moving else None

        return jax.tree.map(choose, tangents, primals, is_leaf=is_none)

    fixed = keep(moving=False)
    values, push = jax.linearize(lambda part: _evaluate(*eqx.combine(part, fixed)), keep(True))
    finite = _all_finite(values)
    pushed = push(jax.tree.map(lambda tangent: jnp.where(finite, tangent, 0), tangents))
    pushed = tuple(jnp.where(finite, tangent, 0) for tangent in pushed)
    return (_replace(values), finite), (pushed, None)


@eqx.filter_jit  # one call is then fast too, and NumPyro has no numbers to object to
def _evaluate(position, log_density, with_score):
    return jax.value_and_grad(log_density)(position) if with_score else (log_density(position),)


def _all_finite(values: tuple[Array, ...]) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in values]))


def _replace(values: tuple[Array, ...]) -> tuple[Array, ...]:
    value, *scores = values
    replaced = jnp.where(jnp.isfinite(value), value, REPLACED_LOG_DENSITY)
    finite = _all_finite(values)
    return (replaced, *(jnp.where(finite, score, 0.0) for score in scores))


class Skeleton(NamedTuple):
    """What is left of a pytree when its arrays are taken out; hashable.

    Two skeletons are equal if code compiled for one may be used for the other.
    """

    structure: Any
    statics: tuple["_Static | None", ...]
    """One for each leaf; None where an array was."""

    def filled_with(self, arrays: tuple[Array, ...]) -> Any:
        """Rebuild the pytree."""
        rest = iter(arrays)
        leaves = [next(rest) if static is None else static.value for static in self.statics]
        return jax.tree.unflatten(self.structure, leaves)


def take_out_arrays(tree: Any, keep_constant: bool = False) -> tuple[tuple[Array, ...], Skeleton]:
    """Separate the arrays of a pytree, as JAX arrays, from its skeleton.

    Args:
        tree: any pytree.
        keep_constant: leave the arrays in the skeleton, as they are. Compiled code then has their
            numbers, and is compiled anew for other arrays.
    """
    leaves, structure = jax.tree.flatten(tree, is_leaf=_has_unsortable_keys)
    taken = [not keep_constant and _is_numeric_array(leaf) for leaf in leaves]
    pairs = list(zip(leaves, taken, strict=True))
    arrays = tuple(jnp.asarray(leaf) for leaf, is_taken in pairs if is_taken)
    statics = tuple(None if is_taken else _Static(leaf) for leaf, is_taken in pairs)
    return arrays, Skeleton(structure, statics)


class _Static:
    """A constant of compiled code: compared by value or, if it has no hash, by identity.

    The type counts too: 2 and 2.0 are equal in Python, but a model may do different things with
    them. Keeping the value keeps its identity from being given to another object.
    """

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple:
        try:
            hash(self.value)
        except TypeError:  # a data frame, or an array that is kept constant
            return type(self.value), id(self.value)
        return type(self.value), self.value


def _is_numeric_array(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array):
        return True
    # Not strings, dates or objects; and NumPy scalars stay numbers, which may set a plate's size.
    kinds = (jnp.number, jnp.bool_)
    return isinstance(leaf, np.ndarray) and any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def _has_unsortable_keys(node: Any) -> bool:
    """Whether this is a dictionary that JAX cannot flatten."""
    if not isinstance(node, dict):
        return False
    try:
        sorted(node)
    except TypeError:
        return True
    return False
