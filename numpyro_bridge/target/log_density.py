"""A function as a target."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from numpyro_bridge._core.checks import MOST_STEPS, check_count, check_function
from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.target.arguments import Skeleton, take_out_arrays
from numpyro_bridge.target.base import Target, check_position
from numpyro_bridge.target.guarded import guarded_point, guarded_value
from numpyro_bridge.target.point import Point
from numpyro_bridge.target.readings import Reading, read
from numpyro_bridge.target.reference import Reference, reference_at
from numpyro_bridge.target.stale_copies import forget_stale_copies


def target_from_log_density(fn: Callable[[Vector], Scalar], dim: int) -> "LogDensityTarget":
    """Make a target of an unnormalised log density on R^dim.

    >>> target = nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), dim=2)
    >>> float(target.log_density(jnp.array([3.0, 4.0])))
    -12.5

    Args:
        fn: maps one position of shape (dim,) to a scalar, in nats; JAX differentiates it. If it is
            a pytree, such as an Equinox module or `jax.tree_util.Partial(function, data)`, its
            arrays are arguments of compiled code: new ones need no new compilation.
        dim: the number of dimensions, at least 1.

    Raises:
        ValueError: if `dim` is not a positive integer, or `fn` does not return a real scalar.
    """
    size = check_count("dim", dim, 1, MOST_STEPS)
    check_function("fn", fn, "lambda position: -0.5 * jnp.sum(position**2)")
    position = jax.ShapeDtypeStruct((size,), jnp.result_type(float))
    value = eqx.filter_eval_shape(fn, position)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        got = type(value).__name__ if shape is None else f"shape {shape} and type {dtype}"
        raise ValueError(
            f"`fn` must map one position of shape ({size},) to a real JAX scalar, its log density; "
            f"it returned {got}. Sum over the dimensions; batches are left to jax.vmap."
        )
    return LogDensityTarget(size, *take_out_arrays(fn)).read_anew()


class LogDensityTarget(Target):
    """A log density given as a function; made by `target_from_log_density`.

    >>> target = nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), dim=2)
    >>> target.constrain(jnp.zeros(2))["x"].tolist()
    [0.0, 0.0]
    """

    dim: int = eqx.field(static=True)
    arrays: tuple[Array, ...]
    _skeleton: Skeleton = eqx.field(static=True)
    reading: Reading = eqx.field(static=True, default=Reading())
    """Digests of what the function reads besides its argument, as for `ModelTarget`."""
    reference: Reference | None = None
    """Where the log density is taken to be zero; None where its values are small enough."""

    def at(self, position: Vector) -> Point:
        check_position(position, self.dim)
        return guarded_point(self._log_density, position, self.reading.most_at_once)

    def log_density(self, position: Vector) -> Scalar:
        check_position(position, self.dim)
        return guarded_value(self._log_density, position, self.reading.most_at_once)

    def constrain(self, position: Vector) -> dict[str, Array]:
        """Return the position itself, by the name "x"."""
        check_position(position, self.dim)
        return {"x": position}

    def relative_to(self, position: Vector) -> "LogDensityTarget":
        reference = reference_at(position, lambda position: {"": _value(self, position)})
        return replace(self, reference=reference)

    def read_anew(self) -> "LogDensityTarget":
        """The same target, after a look at the data that the function reads by itself."""
        return replace(self, reading=self._read_now())

    def reads_as_before(self) -> bool:
        return self._read_now().numbers == self.reading.numbers

    def _read_now(self) -> Reading:
        forget_stale_copies(self._skeleton.filled_with(self.arrays))
        position = jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))
        return read(LogDensityTarget._given, self, position)

    def _log_density(self, position: Vector) -> Scalar:
        value = self._given(position)
        return value if self.reference is None else self.reference.difference({"": value})

    def _given(self, position: Vector) -> Scalar:
        return self._skeleton.filled_with(self.arrays)(position).astype(position.dtype)


@eqx.filter_jit
def _value(target: LogDensityTarget, position: Vector) -> Scalar:
    return target._given(position)
