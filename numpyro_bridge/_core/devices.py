"""Several devices: a batch of trajectories is divided evenly among them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

if TYPE_CHECKING:
    Device = Any  # JAX declares the type as a variable
else:
    Device = jax.Device
Devices = tuple[Device, ...]

_in_force: ContextVar[Devices] = ContextVar("_in_force", default=())


def check_devices(devices: Sequence[Device] | None, num_trajectories: int) -> Devices:
    """The devices to work on, as a tuple, which is empty where JAX is to use its default device.

    Raises:
        ValueError: if the batch does not divide evenly among them.
    """
    devices = checked_devices(devices)
    if not devices:
        return ()
    if num_trajectories % len(devices):
        raise ValueError(
            f"num_trajectories={num_trajectories} cannot be divided evenly among {len(devices)} "
            "devices; give a multiple, or fewer devices"
        )
    return devices


def checked_devices(devices: Any) -> Devices:
    """The devices as a tuple, which is empty where there are none.

    Raises:
        ValueError: if this is no list of devices.
    """
    if devices is None or (type(devices) is tuple and not devices):
        return ()
    is_list = isinstance(devices, Sequence) and not isinstance(devices, str) and len(devices) > 0
    if not (is_list and all(isinstance(each, jax.Device) for each in devices)):
        raise ValueError(
            "devices should be a list such as jax.devices(), of one device or more, got "
            f"{devices!r}"
        )
    return tuple(devices)


@contextmanager
def divided_among(devices: Devices) -> Iterator[None]:
    """Compile what is traced inside this context for the given devices.

    Tracing reads the devices, so they must be part of the cache key of what is compiled.
    """
    token = _in_force.set(devices)
    try:
        yield
    finally:
        _in_force.reset(token)


def divide(batch: jax.Array) -> jax.Array:
    """Divide the leading axis among the devices in force, where later computations then run.

    Results equal those of a single device, up to rounding: sums may be taken in another order.
    """
    devices = _in_force.get()
    if len(devices) < 2 or len(batch) % len(devices):
        return batch
    return jax.lax.with_sharding_constraint(batch, _over(devices, "trajectories"))


def copy_to(devices: Devices, tree: Any) -> Any:
    """Put a copy of every array on each device, which computing on all of them requires."""
    if not devices:
        return tree
    everywhere = _over(devices)
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, everywhere) if eqx.is_array(leaf) else leaf, tree
    )


def copy_back(devices: Devices, tree: Any) -> Any:
    """Take one copy of every array, which is no longer bound to any device."""
    if not devices:
        return tree
    return jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf)) if eqx.is_array(leaf) else leaf, tree
    )


def _over(devices: Devices, *axes: str) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), ("trajectories",)), PartitionSpec(*axes))
