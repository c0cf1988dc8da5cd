"""Simulations: latent values from the prior of a model, and data drawn given them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float
from numpyro import handlers

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.untyped_bases import Messenger
from numpyro_bridge.target import ModelTarget, target_from_model
from numpyro_bridge.target.alone import alone
from numpyro_bridge.target.sites import Repeatable, is_data, is_factor, layers

BATCH = 1_000
"""Simulations that are made side by side."""

Data = dict[str, Array]
"""Values of the observed sites, by name."""


class Simulations(NamedTuple):
    """Pairs of latent values and data from the joint distribution of a model, one a row."""

    position: Float[Array, "num dim"]
    """Unconstrained latent values."""
    data: Data
    shown: Data
    """The data, with zeros where a mask hides them from the likelihood."""

    @property
    def finite(self) -> Bool[Array, " num"]:
        """Which rows have finite numbers only."""
        rows = (self.position, *self.shown.values(), *self.data.values())
        flat = [jnp.reshape(row, (len(row), -1)) for row in rows]
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(row), axis=1) for row in flat]), axis=0)


class OfData(eqx.Module):
    """A model whose observed sites take their values from its first argument.

    Args:
        model: The NumPyro model.
    """

    model: Callable[..., Any]

    def __call__(self, data: Data, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the model with these data in place of those among its arguments."""
        return handlers.condition(SetFree(self.model), {**data})(*args, **kwargs)


class SetFree(Messenger):
    """Effect handler that makes observed sites latent; inside `seed`, which then draws them.

    NumPyro's `uncondition` asks for keys by itself, of the handler that makes models repeatable,
    and would draw the same noise in every simulation.
    """

    def process_message(self, msg: dict[str, Any]) -> None:
        """Forget the value of an observed site, and note that it was one."""
        if msg.get("_control_flow_done", False):
            return  # a site that was drawn inside a scan, where no handler could set it free
        if msg["type"] == "sample" and msg["is_observed"]:
            msg["infer"]["was_observed"] = True
            msg["is_observed"] = False
            msg["value"] = None


def target_of_data(rng_key: RNGKey, target: ModelTarget) -> ModelTarget:
    """Make a target whose data can be exchanged: the same posterior, of the model `OfData`.

    Raises:
        ValueError: if the model cannot simulate its data.
    """
    _check_that_it_simulates(target)
    args, kwargs = target.model_args, target.model_kwargs
    return target_from_model(rng_key, OfData(target.model), target.observed, args, kwargs)


def with_data(target: ModelTarget, data: Data) -> ModelTarget:
    """Exchange the data of a target that `target_of_data` made."""
    _, args, kwargs = target.model_args
    return target.with_arguments(data, args, kwargs)


@eqx.filter_jit  # where NumPyro does not look at the numbers of an arbitrary position
@alone
def shown_data(target: ModelTarget) -> Data:
    """Read the data of a target, with zeros where a mask hides them from the likelihood."""
    model = handlers.seed(Repeatable(target.model), 0)
    placed = target._placed(model, jnp.zeros(target.dim))
    trace = handlers.trace(placed).get_trace(*target.model_args, **target.model_kwargs)
    return {name: _shown(site) for name, site in trace.items() if is_data(site)}


@eqx.filter_jit
def prior_predictive(rng_key: RNGKey, target: ModelTarget, num: int) -> Simulations:
    """Draw latent values from the prior of a model and data given each, all from the key.

    Args:
        rng_key: The same key gives the same simulations.
        target: Made by `target_of_data`.
        num: How many.
    """

    def simulate(rng_key: RNGKey) -> Simulations:
        _, args, kwargs = target.model_args
        trace = _simulated_trace(rng_key, target.model.model, args, kwargs)
        seen = {name: site for name, site in trace.items() if _was_observed(site)}
        data = {name: jnp.asarray(site["value"]) for name, site in seen.items()}
        return Simulations(
            target._position_of(trace), data, {k: _shown(v) for k, v in seen.items()}
        )

    keys = jax.random.split(rng_key, num)
    return jax.lax.map(simulate, keys, batch_size=min(num, BATCH))


def check_simulations(simulations: Simulations, usable: Bool[Array, " num"]) -> None:
    """Raise a ValueError if simulations are all the same, or most of them cannot be used.

    Args:
        simulations: What `prior_predictive` made.
        usable: Which of them are finite, with all that was made of them.
    """
    if not bool(jnp.any(jnp.ptp(simulations.position, axis=0) > 0)):
        raise ValueError(
            "all simulations are the same: pass the model without handlers.seed around it, which "
            "gives it the same randomness every time"
        )
    num, num_usable = len(usable), int(jnp.sum(usable))
    if 2 * num_usable < num:
        raise ValueError(
            f"only {num_usable} of {num} simulations have finite numbers: narrow the priors (a "
            "Gamma(0.01, 0.01) rounds to zero half of the time), or the summaries of the data"
        )


def finite_simulations(rng_key: RNGKey, target: ModelTarget, num: int) -> tuple[Simulations, int]:
    """Draw from the prior and the model until there are `num` simulations of finite numbers.

    Args:
        rng_key: The same key gives the same simulations.
        target: Made by `target_of_data`.
        num: How many, at least two.

    Returns:
        The simulations, and how many others were left out because they were not finite.

    Raises:
        ValueError: if all simulations are the same, or most of them are not finite.
    """
    found, num_made, num_found = [], 0, 0
    while num_found < num:
        simulations = prior_predictive(jax.random.fold_in(rng_key, num_made), target, num)
        usable = simulations.finite
        check_simulations(simulations, usable)
        found.append(jax.tree.map(lambda rows, kept=usable: rows[kept], simulations))
        num_made, num_found = num_made + num, num_found + int(jnp.sum(usable))
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
    return jax.tree.map(lambda rows: rows[:num], joined), num_made - num_found


def _check_that_it_simulates(target: ModelTarget) -> None:
    """Raise if the model simulates from another distribution than its density describes."""
    if target.data_are_constants:
        raise ValueError(
            "the model needs the numbers of its data while it is compiled (int(x.max()), "
            "np.unique(x)), and simulations bring other numbers: compute them outside and pass the "
            "results as Python numbers, with JAX arrays for the data"
        )
    if target.improper_sites:
        raise ValueError(
            f"nothing can be simulated from the improper prior of {[*target.improper_sites]}: give "
            "these sites proper distributions"
        )
    if not target.observed:
        raise ValueError(
            "the model has no observed site, so there are no data to learn from: pass values of "
            "the right shape for the sites with `obs=`, any that the model could make"
        )
    trace = {}

    def simulate(rng_key: RNGKey) -> None:
        args, kwargs = target.model_args, target.model_kwargs
        trace.update(_simulated_trace(rng_key, target.model, args, kwargs))

    try:
        jax.eval_shape(simulate, jax.random.key(0))
    except NotImplementedError as error:
        raise ValueError(
            "a distribution of the model has a density but no sampler, so it cannot be simulated: "
            f"{error or 'its sample() is not implemented'}"
        ) from error
    except Exception as error:
        error.add_note("while simulating data: NumPyro's Predictive on this model fails as well")
        raise
    for name, site in trace.items():
        if site["type"] == "sample":
            _check_site(name, site, target)


def _check_site(name: str, site: dict[str, Any], target: ModelTarget) -> None:
    if is_factor(site):
        raise ValueError(
            f"site {name!r} is a numpyro.factor: it changes the density and not what is simulated. "
            "Write it as a sample site with a distribution, its data as `obs=`"
        )
    if site["scale"] is not None:
        raise ValueError(
            f"the log density of site {name!r} is scaled (numpyro.handlers.scale), and simulations "
            "are of the unscaled model: remove the scale"
        )
    if site["is_observed"]:
        raise ValueError(
            f"observed site {name!r} lies inside a scan, where it cannot be set free to be "
            "simulated: write the loop without observations, and one observed site of its result"
        )
    if _was_observed(site) and jnp.shape(site["value"]) != target.observed[name].shape:
        raise ValueError(
            f"site {name!r} is simulated with shape {jnp.shape(site['value'])}, but the data given "
            f"for it have shape {target.observed[name].shape}: pass data of the shape that the "
            "model makes"
        )


@alone
def _simulated_trace(
    rng_key: RNGKey, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Run the model with its observed sites set free, so that data are drawn for them."""
    free = SetFree(Repeatable(model))
    return handlers.trace(handlers.seed(free, rng_key)).get_trace(*args, **kwargs)


def _was_observed(site: dict[str, Any]) -> bool:
    return site["type"] == "sample" and site["infer"].get("was_observed", False)


def _shown(site: dict[str, Any]) -> Array:
    """The value of a site, zero where it is masked."""
    value, mask = jnp.asarray(site["value"]), jnp.asarray(True)
    for fn in layers(site["fn"]):
        if isinstance(fn, dist.MaskedDistribution):
            mask = mask & jnp.reshape(fn._mask, jnp.shape(fn._mask) + (1,) * fn.event_dim)
    return jnp.where(mask, value, 0).astype(value.dtype)
