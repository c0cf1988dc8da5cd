"""Several devices: a batch of trajectories is divided evenly along a mesh of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

if TYPE_CHECKING:
    Device = Any  # JAX declares the type as a variable
else:
    Device = jax.Device

TRAJECTORIES = "trajectories"
"""The axis of a mesh along which trajectories are divided, where there is one of this name."""

_in_force: ContextVar[Mesh | None] = ContextVar("_in_force", default=None)


def mesh_of(
    devices: Sequence[Device] | None, mesh: Mesh | None, num_trajectories: int | None = None
) -> Mesh | None:
    """The mesh to work on; None where JAX is to use its default device.

    Args:
        devices: The devices, as the user gave them.
        mesh: The mesh, as the user gave it, instead of devices.
        num_trajectories: The size of a batch that has to be divided evenly.

    Raises:
        ValueError: if these are no devices or no mesh, or both are given; if the batch does not
            divide evenly; or if some processes have no device in the mesh.
    """
    if devices is None and mesh is None:
        return None
    if devices is not None and mesh is not None:
        raise ValueError("give either devices= or mesh=, not both")
    made = _checked_mesh(mesh) if devices is None else _mesh_of_devices(devices)
    _check_processes(made)
    if num_trajectories is not None and num_trajectories % num_shares(made):
        raise ValueError(
            f"num_trajectories={num_trajectories} cannot be divided evenly among "
            f"{num_shares(made)} devices; give a multiple, or fewer devices"
        )
    return made


def _checked_mesh(mesh: Any) -> Mesh:
    if not isinstance(mesh, Mesh):
        raise ValueError(
            "mesh should be a jax.sharding.Mesh, such as jax.make_mesh((2, 4), ('trajectories', "
            f"'rows')), got {mesh!r}"
        )
    return _without_types(mesh)


def _mesh_of_devices(devices: Any) -> Mesh:
    is_list = isinstance(devices, Sequence) and not isinstance(devices, str) and len(devices) > 0
    if not (is_list and all(isinstance(each, jax.Device) for each in devices)):
        raise ValueError(
            "devices should be a list such as jax.devices(), of one device or more, got "
            f"{devices!r}"
        )
    if len(set(devices)) < len(devices):
        raise ValueError(f"devices names a device twice: {devices!r}")
    return Mesh(np.array(devices), (TRAJECTORIES,))


def _check_processes(mesh: Mesh) -> None:
    """All processes have to take part, or this one alone: any other would wait for ever."""
    taking_part = {device.process_index for device in mesh.devices.flat}
    if taking_part not in ({jax.process_index()}, set(range(jax.process_count()))):
        raise ValueError(
            f"the devices are those of the processes {sorted(taking_part)} of "
            f"{jax.process_count()}: give those of all processes, jax.devices(), or those of each "
            "process alone, jax.local_devices()"
        )


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether some devices of a mesh belong to another process."""
    return mesh is not None and mesh.is_multi_process


def num_shares(mesh: Mesh | None) -> int:
    """Among how many devices a batch is divided."""
    return 1 if mesh is None else int(np.prod([mesh.shape[axis] for axis in _axes(mesh)]))


@contextmanager
def divided_among(mesh: Mesh | None) -> Iterator[None]:
    """Compile what is traced inside this context for the devices of a mesh.

    Tracing reads the mesh, so it must be part of the cache key of what is compiled.
    """
    token = _in_force.set(mesh)
    try:
        yield
    finally:
        _in_force.reset(token)


def divide(batch: jax.Array) -> jax.Array:
    """Divide the leading axis among the devices in force, where later computations then run.

    Results equal those of a single device, up to rounding: sums may be taken in another order.
    """
    mesh = _in_force.get()
    shares = num_shares(mesh)
    if mesh is None or shares < 2 or len(batch) % shares:
        return batch
    return jax.lax.with_sharding_constraint(batch, _over(mesh, _axes(mesh)))


def gathered(tree: Any) -> Any:
    """Let every device in force have all of every array, so that every process can read it."""
    mesh = _in_force.get()
    if mesh is None or not spans_processes(mesh):
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, _over(mesh)), tree)


def copy_to(mesh: Mesh | None, tree: Any) -> Any:
    """Put a copy of every array on each device, which computing on all of them requires.

    What the user has divided among these devices stays divided.
    """
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: _placed(mesh, leaf) if eqx.is_array(leaf) else leaf, tree)


def copy_back(mesh: Mesh | None, tree: Any) -> Any:
    """Take one copy of every array, which is no longer bound to any device."""
    if mesh is None:
        return tree
    return jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf)) if eqx.is_array(leaf) else leaf, tree
    )


def untyped(array: jax.Array) -> jax.Array:
    """The same array, with a sharding that is no part of its type: models do not reckon with one.

    `jax.make_mesh` makes meshes whose axes are part of the types of arrays.
    """
    sharding = None if isinstance(array, Tracer) else array.sharding
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return array
    mesh = _without_types(sharding.mesh)
    if mesh == sharding.mesh:
        return array
    return jax.device_put(array, NamedSharding(mesh, sharding.spec))


def _without_types(mesh: Mesh) -> Mesh:
    return Mesh(mesh.devices, mesh.axis_names)


def _placed(mesh: Mesh, array: jax.Array) -> jax.Array:
    everywhere, devices = _over(mesh), set(mesh.devices.flat)
    if array.sharding.device_set == devices and not array.is_fully_replicated:
        return array
    if not spans_processes(mesh):
        return jax.device_put(array, everywhere)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        numbers = _placed(mesh, jax.random.key_data(array))
        return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(array))
    here = np.asarray(array)
    return jax.make_array_from_callback(here.shape, everywhere, lambda index: here[index])


def _axes(mesh: Mesh) -> tuple[str, ...]:
    """The axes along which trajectories are divided: others are for the user's data."""
    return (TRAJECTORIES,) if TRAJECTORIES in mesh.axis_names else tuple(mesh.axis_names)


def _over(mesh: Mesh, axes: tuple[str, ...] = ()) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(axes) if axes else PartitionSpec())
