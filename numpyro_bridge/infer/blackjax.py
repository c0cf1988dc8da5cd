"""A bridge in the style of BlackJAX, as a variational algorithm and as a sampling algorithm."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.checks import (
    check_count,
    check_function,
    check_instance,
    check_key,
    check_objective,
    check_optimizer,
    check_process,
    described,
)
from numpyro_bridge._core.doors import check_unforked
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.chart import Chart, Explore, chart
from numpyro_bridge.atlas.explore import explore
from numpyro_bridge.atlas.seen_target import (
    SeenTarget,
    View,
    seen_through,
    view_of,
    without_padding,
)
from numpyro_bridge.atlas.standardisation import no_standardisation
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.seeing import (
    Seen,
    Standardise,
    check_stages,
    process_for_each_chart,
    see,
    stacked,
)
from numpyro_bridge.objectives import OverCharts, reverse_kl_ld
from numpyro_bridge.processes import CMCD, AbstractProcess
from numpyro_bridge.target import Target, target_from_log_density
from numpyro_bridge.target.arguments import holds_tracers
from numpyro_bridge.training.loop import gradient_step
from numpyro_bridge.training.metrics import TrajectoryMetrics
from numpyro_bridge.training.optimizer import bridge_optimizer
from numpyro_bridge.trajectories.ends import End, draw_ends, draw_path_to
from numpyro_bridge.trajectories.path_moves import global_move


class BridgeVIState(NamedTuple):
    """The bridge as far as it is trained, in arrays only, so that any JAX loop can carry it."""

    process: AbstractProcess[Any]
    """The two chains; where there are several charts, those of all charts, stacked."""
    view: View
    """The charts, or the single map, through which flat positions are seen; not trained."""
    optimizer_state: Any
    position: Any
    """The first position; draws have its structure."""


class BridgeVI(NamedTuple):
    """Three functions that make a `VIAlgorithm` in BlackJAX's sense.

    >>> algorithm = nb.as_blackjax(target.log_density, standardise=nb.no_standardisation)
    >>> state = algorithm.init(jnp.zeros(2))
    """

    init: Callable[..., BridgeVIState]
    step: Callable[[RNGKey, BridgeVIState], tuple[BridgeVIState, TrajectoryMetrics]]
    sample: Callable[..., tuple[Any, Float[Array, " num_samples"]]]


def as_blackjax(
    logdensity_fn: Callable[[Any], Scalar],
    *,
    process: Callable[..., AbstractProcess[Any]] = CMCD,
    objective: Callable[..., Any] = reverse_kl_ld,
    explore: Explore = explore,
    charts: Chart = chart,
    standardise: Standardise | None = None,
    optimizer: optax.GradientTransformation | None = None,
    num_trajectories: int = 256,
) -> BridgeVI:
    """A bridge as a variational algorithm of BlackJAX, on a log density of any pytree.

    >>> from blackjax.util import run_inference_algorithm as run
    >>> algorithm = nb.as_blackjax(target.log_density, standardise=nb.no_standardisation)
    >>> state, (_, metrics) = run(key, algorithm, 5, initial_position=jnp.zeros(2))
    >>> positions, log_weight = algorithm.sample(key, state, 1_000)

    The charts, the process, the loss and the iteration are those of `BridgeSampler`; an iteration
    trains the bridges of all charts. What `BridgeSampler` does
    between iterations is left to the caller: stopping, lowering the step size, and keeping the best
    parameters.

    Args:
        logdensity_fn: The unnormalised log density, in nats, of one position: an array of floats or
            a pytree of such arrays, without constraints.
        process: Makes the process from `(rng_key, dim)`, such as `nb.CMCD`.
        objective: The loss.
        explore: Finds the places to chart from `(rng_key, target)`.
        charts: Makes the atlas from `(rng_key, target, exploration)`.
        standardise: Chooses a single map from `(rng_key, target)`, in place of exploration and
            charts: `nb.standardise`, or `nb.no_standardisation` for none.
        optimizer: An optax transformation; `bridge_optimizer()` if not given.
        num_trajectories: Trajectories per step, of all charts together; each chart has at least
            two.

    Returns:
        Three functions. `init(position, rng_key=None)` returns the first state; of the position
        only the structure and the shapes matter. `step(rng_key, state)` returns the state after one
        iteration, and its metrics. `sample(rng_key, state, num_samples=1)` returns positions and
        the log weights that correct them; each draw chooses its chart by the charts' shares.

    Raises:
        ValueError: if a setting cannot work, or if `init` explores or standardises inside
            `jax.jit`.
    """
    check_function("logdensity_fn", logdensity_fn, "jax.scipy.stats.norm.logpdf")
    check_process(process)
    check_objective(objective)
    num_trajectories = check_count("num_trajectories", num_trajectories, 2)
    optimizer = bridge_optimizer() if optimizer is None else optimizer
    check_optimizer(optimizer)
    check_stages(explore, charts, standardise)
    loss = partial(OverCharts(objective), num_trajectories=num_trajectories)
    look = partial(see, explore=explore, charts=charts, standardise=standardise, trained=True)
    can_be_compiled = standardise is no_standardisation
    algorithm = _Algorithm(logdensity_fn, process, loss, look, can_be_compiled, optimizer)
    return BridgeVI(algorithm.init, algorithm.step, algorithm.sample)


@dataclass(frozen=True, eq=False)
class _Algorithm:
    """The settings that the three functions of `as_blackjax` share."""

    logdensity_fn: Callable[[Any], Scalar]
    process: Callable[..., AbstractProcess[Any]]
    loss: Callable[..., Any]
    look: Callable[[RNGKey, Target], Seen]
    can_be_compiled: bool
    """Whether `init` looks at nothing that only numbers would tell."""
    optimizer: optax.GradientTransformation

    def init(self, position: Any, rng_key: RNGKey | None = None) -> BridgeVIState:
        check_unforked("init")
        rng_key = jax.random.key(0) if rng_key is None else rng_key
        check_key(rng_key)
        _check_like(position)
        hidden = holds_tracers((rng_key, position))
        if hidden and not self.can_be_compiled:
            raise ValueError(
                "init explores the density, which cannot be done inside jax.jit or vmap: call it "
                "outside, or write nb.as_blackjax(..., standardise=nb.no_standardisation)"
            )
        map_key, process_key = jax.random.split(rng_key)
        target = _target_of(self.logdensity_fn, position)
        seen = self.look(map_key, target).target
        made = stacked(process_for_each_chart(process_key, self.process, seen))
        params: Any = eqx.filter(made, eqx.is_inexact_array)
        view = without_padding(view_of(seen))
        return BridgeVIState(made, view, self.optimizer.init(params), position)

    def step(
        self, rng_key: RNGKey, state: BridgeVIState
    ) -> tuple[BridgeVIState, TrajectoryMetrics]:
        _check_step(rng_key, state, BridgeVIState)
        params, static = eqx.partition(state.process, eqx.is_inexact_array)
        one = jnp.ones((), jnp.result_type(float))
        params, optimizer_state, metrics = gradient_step(
            rng_key,
            params,
            state.optimizer_state,
            static,
            self.loss,
            _seen(self.logdensity_fn, state),
            self.optimizer,
            one,
        )
        trained = eqx.combine(params, static)
        return state._replace(process=trained, optimizer_state=optimizer_state), metrics

    def sample(
        self, rng_key: RNGKey, state: BridgeVIState, num_samples: int = 1
    ) -> tuple[Any, Float[Array, " num_samples"]]:
        _check_step(rng_key, state, BridgeVIState)
        num_samples = check_count("num_samples", num_samples, 1)
        keys = jax.random.split(rng_key, num_samples)
        return _draw(keys, state.process, _seen(self.logdensity_fn, state), state.position)


def _check_like(position: Any) -> None:
    """Raise a ValueError unless this is a pytree of numbers, at least one of them."""
    leaves = jax.tree.leaves(position)
    numbers = [leaf for leaf in leaves if not isinstance(leaf, bool) and eqx.is_array_like(leaf)]
    if not leaves or len(numbers) < len(leaves):
        raise ValueError(
            "position must be an array of floats or a pytree of such arrays, such as "
            f"jnp.zeros(3), got {described(position)}"
        )


def _check_step(rng_key: Any, state: Any, kind: type) -> None:
    check_key(rng_key)
    check_instance("state", state, kind, "what init or step returned")


class _OnVectors(eqx.Module):
    """A log density of pytrees as one of flat vectors.

    The pytree has the structure and the shapes of `like`, whose numbers do not matter.
    """

    logdensity_fn: Callable[[Any], Scalar]
    like: Any

    def __call__(self, position: Vector) -> Scalar:
        return self.logdensity_fn(_unravel(self.like, position))


def _unravel(like: Any, position: Vector) -> Any:
    return ravel_pytree(_floats(like))[1](position)


def _floats(position: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), position)


def _target_of(logdensity_fn: Callable[[Any], Scalar], position: Any) -> Target:
    dim = ravel_pytree(_floats(position))[0].size
    return target_from_log_density(_OnVectors(logdensity_fn, position), dim)


def _seen(logdensity_fn: Callable[..., Any], state: BridgeVIState) -> SeenTarget:
    return seen_through(_target_of(logdensity_fn, state.position), state.view)


@eqx.filter_jit
def _draw(keys: Any, process: AbstractProcess[Any], target: SeenTarget, like: Any):
    ends = draw_ends(keys, process, target)
    return jax.vmap(partial(_unravel, like))(ends.position), ends.log_weight


class PathState(NamedTuple):
    """A state of the chain: the end of a path, and the weight of the whole path."""

    position: Any
    """Unconstrained values by site, or the vector of a log density."""
    logdensity: Float[Array, ""]
    """Log density of the posterior at the position, in nats."""
    log_weight: Float[Array, ""]
    """Log weight of the whole path, in nats."""


class PathInfo(NamedTuple):
    """What happened in a step."""

    acceptance_rate: Float[Array, ""]
    """Probability with which the proposal was accepted."""
    is_accepted: Bool[Array, ""]


class PathMetropolis(NamedTuple):
    """Two functions that make a `SamplingAlgorithm` in BlackJAX's sense.

    >>> algorithm = nb.infer.path_metropolis(posterior)
    >>> state = algorithm.init({"w": jnp.zeros(2)}, key)
    >>> state, info = algorithm.step(key, state)
    """

    init: Callable[..., PathState]
    step: Callable[[RNGKey, PathState], tuple[PathState, PathInfo]]


def path_metropolis(posterior: Posterior[Any]) -> PathMetropolis:
    r"""A trained bridge as a BlackJAX sampling algorithm, exact however well it is trained.

    >>> from blackjax.util import run_inference_algorithm as run
    >>> algorithm = nb.infer.path_metropolis(posterior)
    >>> position = {"w": jnp.zeros(2)}
    >>> state, (states, info) = run(key, algorithm, 1_000, initial_position=position)

    Each step draws a path and moves to its end with probability $\min(1, w' / w)$, where $w'$ and
    $w$ are the weights of the new and the present path. This leaves the distribution of paths that
    end in the posterior invariant. `init(position, rng_key)` draws a path to the given position by
    the backward chain.

    Args:
        posterior: A trained posterior, from `BridgeSampler.run`, `AutoBridge.to_posterior` or
            `nb.load`.

    Returns:
        `init(position, rng_key)` and `step(rng_key, state)`. A position holds unconstrained values
        by site, as NumPyro's potential energy takes them.
    """
    such_as = "nb.BridgeSampler(model).run(rng_key, x, y=y)"
    check_instance("posterior", posterior, Posterior, such_as)
    process, target = posterior.process, posterior.target

    def init(position: Any, rng_key: RNGKey | None = None) -> PathState:
        if rng_key is None:
            raise ValueError(
                "the path to the first position is random and needs a key: call "
                "init(position, rng_key)"
            )
        check_key(rng_key)
        end = draw_path_to(rng_key, process, target, target.base.joined(position))
        return state_of(end)

    def state_of(end: End) -> PathState:
        return PathState(target.base.by_site(end.position), end.log_density, end.log_weight)

    def step(rng_key: RNGKey, state: PathState) -> tuple[PathState, PathInfo]:
        _check_step(rng_key, state, PathState)
        position = target.base.joined(state.position)
        end = End(position, state.logdensity, state.log_weight, jnp.asarray(True), jnp.asarray(0))
        end, probability, accepted = global_move(rng_key, process, target, end)
        return state_of(end), PathInfo(probability, accepted)

    return PathMetropolis(init, step)
