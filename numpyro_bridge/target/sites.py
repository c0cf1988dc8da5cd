"""What the sites of a model's trace are, and handlers that make every run of a model the same."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from numpyro_bridge._core.types import Vector
from numpyro_bridge._core.untyped_bases import Messenger


def layers(fn: dist.Distribution) -> Iterator[dist.Distribution]:
    """A distribution and those inside its plates (`expand`), masks and `to_event`, in order."""
    yield fn
    while isinstance(fn, dist.ExpandedDistribution | dist.MaskedDistribution | dist.Independent):
        fn = fn.base_dist
        yield fn


def innermost(fn: dist.Distribution) -> dist.Distribution:
    """The distribution inside plates (`expand`), masks and `to_event`."""
    *_, last = layers(fn)
    return last


def family_of(fn: dist.Distribution) -> str:
    """The name of the innermost distribution, such as "Normal"."""
    return type(innermost(fn)).__name__


def is_discrete(fn: dist.Distribution) -> bool:
    """Whether the values of a distribution cannot be moved continuously."""
    return fn.support is not None and fn.support.is_discrete


def has_no_integral(fn: dist.Distribution) -> bool:
    """Whether a distribution is `ImproperUniform`, inside plates or not."""
    return isinstance(innermost(fn), dist.ImproperUniform)


def is_factor(site: dict[str, Any]) -> bool:
    """Whether a sample site was made by `numpyro.factor` (log-determinants are made so too)."""
    return isinstance(innermost(site["fn"]), dist.Unit)


def is_data(site: dict[str, Any]) -> bool:
    """Whether a site is observed; a factor is not."""
    return site["type"] == "sample" and site["is_observed"] and not is_factor(site)


def unconstrained_value(site: dict[str, Any]) -> Array:
    """The value of a latent site, moved to the unconstrained space of its support."""
    return dist.biject_to(site["fn"].support).inv(site["value"])


def joined_in_order(names: Iterable[str], values: Mapping[str, ArrayLike]) -> Vector:
    """One vector of the values of sites, in the order of `names`.

    >>> values = {"theta": jnp.array([1.0, 2.0]), "mu": 0.0}
    >>> nb.target.joined_in_order(["mu", "theta"], values).tolist()
    [0.0, 1.0, 2.0]

    A target joins them by name, NumPyro's guides in the order of the model.
    """
    return jnp.concatenate([jnp.ravel(values[name]) for name in names])


class Repeatable(Messenger):
    """Effect handler, to be the innermost, that makes every run of a model the same."""

    def process_message(self, msg: dict[str, Any]) -> None:
        """Give `numpyro.prng_key()` the key that NUTS gives it, and each site its own notes."""
        if msg["type"] == "prng_key" and msg["value"] is None:
            msg["value"] = jax.random.key(0)
        elif msg["type"] == "sample":
            # Enumeration writes its axes into this dictionary, which the model may use twice.
            axes = ("dim_to_name", "name_to_dim")
            msg["infer"] = {k: v for k, v in msg["infer"].items() if k not in axes}


def enumerated(model: Callable[..., Any], num_plate_dims: int) -> Callable[..., Any]:
    """Spread discrete latent sites over axes of their own, to the left of all plates."""
    try:
        from numpyro.contrib.funsor import config_enumerate, enum
    except ImportError as error:
        raise ImportError(
            "The model has discrete latent sites, which NumPyro sums out with the package funsor. "
            "Install it with: pip install funsor"
        ) from error
    return enum(config_enumerate(model), first_available_dim=-num_plate_dims - 1)


def check_values(shapes: dict[str, tuple[int, ...]], values: dict[str, Any]) -> None:
    """Raise a ValueError unless there is a value of this shape for every latent site."""
    missing = [name for name in shapes if name not in values]
    if missing:
        raise ValueError(f"Latent sites {missing} are missing; got values of {sorted(values)}.")
    given = {name: jnp.shape(values[name]) for name in shapes}
    if given != shapes:
        raise ValueError(
            f"the latent sites have the shapes {shapes} at one draw, got {given}: several "
            "draws should be rows, one axis in front of every site"
        )
