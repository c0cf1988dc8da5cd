"""BridgeKernel: a bridge as a kernel for NumPyro's MCMC."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from numpyro.util import is_prng_key

from numpyro_bridge._core.checks import check_key
from numpyro_bridge._core.doors import check_unforked
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.untyped_bases import MCMCKernel
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.bridge_sampler import BridgeSampler
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.target import ModelTarget, Target
from numpyro_bridge.target.arguments import holds_tracers
from numpyro_bridge.target.seen_data import SeenData
from numpyro_bridge.training.training import Stop
from numpyro_bridge.trajectories.ends import End, draw_path_to
from numpyro_bridge.trajectories.path_moves import first_end, global_move


class BridgeKernelState(NamedTuple):
    """The state of one chain; every field can be an extra field of `MCMC.run`."""

    i: Int[Array, "*chains"]
    """Number of iterations done."""
    z: Any
    """Unconstrained values by site."""
    potential_energy: Float[Array, "*chains"]
    """Minus the log density of `z`, in nats."""
    log_weight: Float[Array, "*chains"]
    """Log weight of the path to `z`, in nats."""
    accept_prob: Float[Array, "*chains"]
    """Probability of accepting the last path."""
    accepted: Bool[Array, "*chains"]
    """Whether the last path was accepted."""
    mean_accept_prob: Float[Array, "*chains"]
    """Mean of `accept_prob` over warm-up, and after warm-up over sampling."""
    local: Any
    """State of the local kernel in standardised coordinates; None if there is no local kernel."""
    rng_key: RNGKey | Any
    """Randomness of the iterations to come."""


class BridgeKernel(MCMCKernel):
    r"""Train a bridge, and use its draws as proposals of an exact Markov chain.

    >>> from numpyro.infer import MCMC
    >>> mcmc = MCMC(nb.BridgeKernel(model), num_warmup=100, num_samples=1_000)

    `mcmc.run(rng_key, x, y=y)` trains the bridge, and then draws with it.

    Each iteration draws a whole path of the bridge and accepts its end with probability
    $\min(1, w' / w)$, where $w'$ and $w$ are the weights of the new and the present path. This is
    independence Metropolis-Hastings on path space, and is exact for any trained bridge. Where the
    bridge is poor the chain sticks, and ESS and r-hat show it.

    With `local_kernel`, every iteration then makes one move of another kernel, and draws a new path
    to the place that it reached, by the backward chain. All three steps leave the posterior
    invariant. The bridge jumps between modes and the local kernel explores each of them, so that a
    bridge that is a little off, or was trained briefly, is good enough.

    The bridge is trained when the first chain is initialised, with randomness from `training_key`
    and not from the key of `MCMC.run`. It is trained once for all chains, whatever the
    `chain_method`, and again only if the data change. The result is `posterior`. Warm-up iterations
    move the chain too: they let it forget its start and the local kernel adapt.

    An iteration draws one path, or two with `local_kernel`, one after the other. To draw many
    independent draws, `Posterior.sample` is faster by an order of magnitude.

    Args:
        model: A NumPyro model, a target made by `target_from_log_density`, or a trained
            `Posterior`. Targets and posteriors hold their data: call `mcmc.run(rng_key)`.
        local_kernel: Makes a kernel of NumPyro from `potential_fn`, such as `NUTS`, `BarkerMH` or
            `partial(HMC, num_steps=1, trajectory_length=None)`, which is MALA. It works in
            standardised coordinates, or, on several charts, in those of the whole posterior.
        training_key: A JAX key for the training; `jax.random.key(0)` if not given.
        **settings: Settings of `BridgeSampler`: `process`, `objective`, `num_iterations` and so on.

    Raises:
        ValueError: if a setting cannot work. `MCMC.run` raises what `BridgeSampler.run` raises, and
            a ValueError if the data are not those that the bridge was trained on.
    """

    sample_field = "z"  # pyright: ignore[reportAssignmentType]
    default_fields: tuple[str, ...] = ("z", "log_weight", "accept_prob")  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        model: Callable[..., Any] | Target | Posterior[Any],
        *,
        local_kernel: Callable[..., MCMCKernel] | None = None,
        training_key: RNGKey | None = None,
        **settings: Any,
    ):
        self.local_kernel: Callable[..., MCMCKernel] | None = _checked_local_kernel(local_kernel)
        self.training_key: RNGKey = jax.random.key(0) if training_key is None else training_key
        check_key(self.training_key, "training_key")
        self._sampler: BridgeSampler | None = None
        self._trained_on: SeenData | None = None
        self._sample_fn: Callable[[BridgeKernelState], BridgeKernelState] | None = None
        self.posterior: Posterior[Any] | None = None
        """The trained bridge; None before the first run."""
        self._holds_data = True
        if isinstance(model, Posterior):
            if settings:
                raise ValueError(
                    f"a trained posterior needs no settings of training, got {sorted(settings)}"
                )
            self.posterior, self.model = model, _model_with_data(model.target.base)
        else:
            self._sampler = BridgeSampler(model, **settings)
            self._holds_data = isinstance(model, Target)
            self.model = None if self._holds_data else model

    def init(
        self,
        rng_key: Any,
        num_warmup: int,
        init_params: Any,
        model_args: tuple[Any, ...],
        model_kwargs: dict[str, Any],
    ) -> BridgeKernelState:
        """Train the bridge if needed, and find the first state of one chain or of all chains."""
        check_unforked("BridgeKernel.init")
        # With chain_method="parallel" this function is being compiled, yet the data are known.
        with jax.ensure_compile_time_eval():
            posterior = self._posterior_for(model_args, model_kwargs)
        local = self._make_local(_whole(posterior))
        start = partial(_start, posterior, local, num_warmup)
        self._sample_fn = partial(_step, posterior, local, num_warmup)
        # Compiled as one program, since a local kernel starts with dozens of small operations.
        return jax.jit(start if is_prng_key(rng_key) else jax.vmap(start))(rng_key, init_params)

    def sample(
        self, state: BridgeKernelState, model_args: tuple[Any, ...], model_kwargs: dict[str, Any]
    ) -> BridgeKernelState:
        """Run one iteration of one chain or of all chains."""
        with jax.ensure_compile_time_eval():
            self._check_data(model_args, model_kwargs)
        assert self._sample_fn is not None, "`init` must be called before `sample`."
        single = is_prng_key(state.rng_key)
        return (self._sample_fn if single else jax.vmap(self._sample_fn))(state)

    def postprocess_fn(
        self, model_args: tuple[Any, ...], model_kwargs: dict[str, Any]
    ) -> Callable[..., Any]:
        """Make the function from unconstrained values to all sites, deterministic ones included."""
        assert self.posterior is not None, "`init` must be called before `postprocess_fn`."
        target = self.posterior.target.base
        return lambda z: target.constrain(target.joined(z))

    def get_diagnostics_str(self, state: BridgeKernelState) -> str:
        """Say for the progress bar how often paths are accepted."""
        return f"paths accepted {float(jnp.mean(state.mean_accept_prob)):.0%}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled; a trained kernel no longer needs its sampler."""
        state = {**self.__dict__, "_sample_fn": None}
        return state if self.posterior is None else {**state, "_sampler": None}

    def _posterior_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Posterior[Any]:
        """The bridge for these data, which is trained now if it has not been before."""
        if self._holds_data and (args or kwargs):
            raise ValueError(
                "this kernel was made from a trained posterior or a target, which holds its data "
                "already; call mcmc.run(rng_key) without further arguments"
            )
        if self.posterior is not None and self._is_trained_on(args, kwargs):
            return self.posterior
        if self._sampler is None:
            raise ValueError(
                "this kernel came out of a file with a bridge for other data; make a new "
                "BridgeKernel to train on these"
            )
        if holds_tracers((args, kwargs)):
            raise ValueError(
                "the kernel trains when it is initialised and needs the numbers of the data, which "
                "compiled code does not have: call init, or MCMC.run, outside jax.jit"
            )
        self.posterior = self._sampler.run(self.training_key, *args, **kwargs)
        self._trained_on = SeenData.of(self.model, args, kwargs)
        if self.posterior.report.stopped is Stop.INTERRUPTED:
            raise KeyboardInterrupt(
                "the training of the bridge was interrupted, and no chain has begun; the bridge as "
                "it is now is kernel.posterior, which the next mcmc.run of this kernel samples with"
            )
        return self.posterior

    def _is_trained_on(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if self._holds_data or self._trained_on is None or self.posterior is None:
            return self._holds_data
        same = self._trained_on.are(self.model, args, kwargs)
        return same and self.posterior.target.base.reads_as_before()

    def _check_data(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._holds_data and not self._is_trained_on(args, kwargs):
            raise ValueError(
                "the bridge was trained on other data than it is to be sampled with; to train on "
                "these, run without a warm state: mcmc.post_warmup_state = None"
            )

    def _make_local(self, target: StandardisedTarget) -> MCMCKernel | None:
        if self.local_kernel is None:
            return None
        return self.local_kernel(potential_fn=lambda x: -target.log_density(x))


def _start(
    posterior: Posterior[Any],
    local: MCMCKernel | None,
    num_warmup: int,
    rng_key: RNGKey,
    init_params: Any,
) -> BridgeKernelState:
    path_key, local_key, rng_key = jax.random.split(rng_key, 3)
    process, target = posterior.process, posterior.target
    if init_params is None:
        end = first_end(path_key, process, target)
    else:
        end = draw_path_to(path_key, process, target, target.base.joined(init_params))
    local_state = None
    if local is not None:
        inside = _whole(posterior).map.inverse(end.position)
        local_state = local.init(local_key, num_warmup, inside, (), {})
    zero = jnp.zeros_like(end.log_weight)
    return _state(jnp.asarray(0), target, end, zero, jnp.asarray(False), zero, local_state, rng_key)


def _step(
    posterior: Posterior[Any], local: MCMCKernel | None, num_warmup: int, state: BridgeKernelState
) -> BridgeKernelState:
    process, target = posterior.process, posterior.target
    rng_key, move_key, path_key = jax.random.split(state.rng_key, 3)
    position = target.base.joined(state.z)
    known = jnp.asarray(True), jnp.asarray(0)
    end = End(position, -state.potential_energy, state.log_weight, *known)
    end, probability, accepted = global_move(move_key, process, target, end)
    local_state = state.local
    if local is not None:
        whole = _whole(posterior)
        local_state = local.sample(_moved(state.local, whole, end.position), (), {})
        position = whole.map(getattr(local_state, local.sample_field))
        end = draw_path_to(path_key, process, target, position)
    # The mean starts anew after warm-up, as that of NumPyro's HMC does.
    count = jnp.where(state.i < num_warmup, state.i + 1, state.i + 1 - num_warmup)
    mean = state.mean_accept_prob + (probability - state.mean_accept_prob) / count
    return _state(state.i + 1, target, end, probability, accepted, mean, local_state, rng_key)


def _whole(posterior: Posterior[Any]) -> StandardisedTarget:
    """The undivided target, on which the local kernel moves."""
    target = posterior.target
    return target if isinstance(target, StandardisedTarget) else target.whole()


def _state(i, target, end: End, probability, accepted, mean, local, rng_key) -> BridgeKernelState:
    z = target.base.by_site(end.position)
    energy = -target.base.absolute(end.log_density)
    return BridgeKernelState(
        i, z, energy, end.log_weight, probability, accepted, mean, local, rng_key
    )


def _moved(local_state: Any, target: StandardisedTarget, position: Array) -> Any:
    """Move the state of a local kernel: replace what NumPyro's kernels keep of a position."""
    point = target.at(target.map.inverse(position))
    known = {"z": point.position, "potential_energy": -point.log_density, "z_grad": -point.score}
    fields = local_state._fields
    return local_state._replace(**{name: x for name, x in known.items() if name in fields})


def _checked_local_kernel(local_kernel: Any) -> Any:
    # A class or a partial function can be called; a kernel that was already made cannot.
    if local_kernel is None or callable(local_kernel):
        return local_kernel
    raise ValueError(
        "local_kernel is made for the bridge's coordinates: pass the class or a partial, such as "
        f"NUTS or numpyro.infer.BarkerMH, not {type(local_kernel).__name__}"
    )


def _model_with_data(target: Target) -> Callable[..., Any] | None:
    """The model with its arguments, as ArviZ runs it, since `mcmc.run` is given none."""
    if not isinstance(target, ModelTarget):
        return None
    return partial(target.model, *target.model_args, **target.model_kwargs)
