"""Sub-trajectory balance: every piece of a trajectory should balance the flows at its two ends."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.checks import (
    MOST_STEPS,
    check_count,
    check_function,
    check_instance,
    check_key,
    check_number,
    check_positive,
)
from numpyro_bridge._core.layers import Linear, time_features
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import check_request
from numpyro_bridge.objectives.log_evidence import LogEvidence
from numpyro_bridge.objectives.sampling import Sampling, on_policy
from numpyro_bridge.processes.base import AbstractProcess, AbstractWrapper
from numpyro_bridge.target import Point, Target
from numpyro_bridge.trajectories.rescore import StepDensities, held, score_steps
from numpyro_bridge.trajectories.trajectory import Trajectory

NUM_FEATURES = 16


class FlowCorrection(eqx.Module):
    """What is added to the annealed log density at each time and state; zero at first."""

    time_layer: Linear
    input_layer: Linear
    output_layer: Linear

    def __init__(self, rng_key: RNGKey, dim: int, width: int = 64):
        """Make a network of one hidden layer of `width` units for `dim` coordinates."""
        time_key, input_key, output_key = jax.random.split(rng_key, 3)
        self.time_layer = Linear(time_key, NUM_FEATURES, width)
        self.input_layer = Linear(input_key, 2 * dim, width)
        self.output_layer = Linear(output_key, width, 1, gain=0.0)

    def __call__(self, time: Scalar, point: Point) -> Scalar:
        """The correction, in nats, for the position and the score of a point."""
        inputs = self.input_layer(jnp.concatenate([point.position, point.score]))
        hidden = jax.nn.silu(inputs + self.time_layer(time_features(time, NUM_FEATURES)))
        return self.output_layer(hidden)[0]


class WithLogFlow(AbstractWrapper[Any]):
    r"""A process and the log flow through each of its states, to be learned together.

    >>> both = nb.objectives.WithLogFlow(key, 2, process, log_evidence=-14.0)
    >>> both.log_flow(jnp.array(1), target.at(jnp.zeros(2)), target).shape
    ()

    $$\log F_t(x) = (1 - t)\left[\log \hat Z + \log p_0(x)\right] + t \log \gamma(x) + t (1 - t)\,
      h_t(x)$$

    Args:
        rng_key: Randomness of the first weights of $h$.
        dim: Dimension of the target.
        process: The process whose flow is learned.
        log_evidence: First value of $\log \hat Z$, in nats.
        width: Units of the hidden layer of $h$.
    """

    process: AbstractProcess[Any]
    log_evidence: LogEvidence
    correction: FlowCorrection

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        process: AbstractProcess[Any],
        log_evidence: float = 0.0,
        width: int = 64,
    ):
        check_key(rng_key)
        dim = check_count("dim", dim, 1, MOST_STEPS)
        check_instance("process", process, AbstractProcess, "nb.CMCD(rng_key, dim)")
        width = check_count("width", width, 1, MOST_STEPS)
        self.process = process
        self.log_evidence = LogEvidence(check_number("log_evidence", log_evidence))
        self.correction = FlowCorrection(rng_key, dim, width)

    def log_flow(self, step: Int[Array, ""], point: Point, target: Target) -> Scalar:
        """The log flow through one state, in nats."""
        time = step / self.num_steps
        extension = self.extension(point)
        log_target = point.log_density
        log_target += 0.0 if extension is None else extension.log_prob(point)
        log_start = self.log_evidence.value + self.start(target).log_prob(point)
        return (
            (1 - time) * log_start
            + time * log_target
            + time * (1 - time) * self.correction(time, point)
        )


def with_log_flow(
    process: Callable[..., AbstractProcess[Any]], log_evidence: float = 0.0, *, width: int = 64
) -> Callable[..., WithLogFlow]:
    """Make the constructor of a process one that `sub_trajectory_balance` can train.

    >>> process = nb.objectives.with_log_flow(nb.CMCD, -70.0)
    >>> sampler = nb.BridgeSampler(model, process=process, objective=nb.sub_trajectory_balance)

    Args:
        process: A constructor, such as `nb.CMCD` or a partial of it.
        log_evidence: First guess, in nats, such as the ELBO of a standardisation.
        width: Units of the network that corrects the annealed density.

    Raises:
        ValueError: if `process` cannot be called with its settings.
    """
    check_function("process", process, "nb.CMCD")
    log_evidence = check_number("log_evidence", log_evidence)
    width = check_count("width", width, 1, MOST_STEPS)

    @functools.wraps(process)
    def make(rng_key: RNGKey, dim: int, **settings) -> WithLogFlow:
        process_key, flow_key = jax.random.split(rng_key)
        inner = process(process_key, dim, **settings)
        return WithLogFlow(flow_key, dim, inner, log_evidence, width)

    return make


def sub_trajectory_balance(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: Target,
    *,
    num_trajectories: int,
    sampling: Sampling = on_policy,
    decay: float = 0.9,
) -> tuple[Scalar, Trajectory]:
    r"""Half the mean squared imbalance of all pieces of a trajectory, short ones counting most.

    >>> process = nb.objectives.with_log_flow(nb.CMCD)
    >>> sampler = nb.BridgeSampler(model, process=process, objective=nb.sub_trajectory_balance)

    $$\mathcal{L} = \tfrac12\,\mathbb{E} \sum_{i<j} c_{ij} \left[\log \frac{F_i(x_i)
      \prod_{k=i}^{j-1} \vec{p}(x_{k+1} \mid x_k)}{F_j(x_j) \prod_{k=i}^{j-1}
      \overleftarrow{p}(x_k \mid x_{k+1})}\right]^2, \qquad c_{ij} \propto \lambda^{j-i}$$

    Where every piece is in balance, so is the whole, whose log weight then is $\log \hat Z$. Each
    step is judged by short pieces around it rather than by the whole trajectory, at the price of a
    flow that must be learned. With the longest piece alone this is `trajectory_balance`, and it has
    the same weakness: where the backward chain or the noise is learned, the gradient is not that of
    a divergence.

    The target's log density enters the flow at early times already, so choose an initial
    distribution that is not far from the target. From a vague prior (`nb.processes.InitialPrior`)
    the imbalances are huge, and training can diverge.

    Args:
        rng_key: Randomness of the batch.
        process: A process from `with_log_flow`.
        target: The density, unnormalised.
        num_trajectories: Batch size.
        sampling: Where trajectories come from; the loss is right for any.
        decay: $\lambda > 0$. Below one, short pieces count most; far above one, the whole does.

    Returns:
        The loss in nats squared, and the trajectories it was estimated from.

    Raises:
        TypeError: if the process has no flow to learn.
        ValueError: if `decay` is not positive.

    Reference: Madan et al. (2023), arXiv:2209.12782; for diffusions, with a flow built on an
    annealed density, Zhang et al. (2024), arXiv:2310.02679.
    """
    num_trajectories = check_request(rng_key, process, target, num_trajectories, sampling)
    if not isinstance(process, WithLogFlow):
        inner, got = (type(x).__name__ for x in (process.innermost, process))
        raise TypeError(
            "process: sub_trajectory_balance learns a flow with the process; write "
            f"process=nb.objectives.with_log_flow(nb.{inner}), got {got}"
        )
    decay = check_positive("decay", decay)
    batch = sampling(rng_key, process, target, num_trajectories)
    states = batch.runs.states
    log_flow, parts = jax.vmap(_flows_and_steps, in_axes=(None, None, 0))(process, target, states)
    return 0.5 * jnp.mean(jax.vmap(_imbalance, in_axes=(0, 0, None))(log_flow, parts, decay)), (
        batch.reported
    )


def _flows_and_steps(
    process: WithLogFlow, target: Target, states: Point
) -> tuple[Float[Array, " states"], StepDensities]:
    process = held(process)
    steps = jnp.arange(process.num_steps + 1)
    log_flow = jax.vmap(process.log_flow, in_axes=(0, 0, None))(steps, states, target)
    return log_flow, score_steps(process, target, states)


def _imbalance(log_flow: Float[Array, " states"], parts: StepDensities, decay: float) -> Scalar:
    """The weighted mean over all pieces of one trajectory."""
    gained = jnp.cumsum(parts.log_forward - parts.log_backward)
    # A piece is in balance where this number is the same at its two ends.
    level = log_flow - jnp.concatenate([jnp.zeros(1, gained.dtype), gained])
    places = jnp.arange(len(level))
    length = places[None, :] - places[:, None]
    # Scaled by the largest, so that no power overflows.
    largest = len(level) - 1 if decay > 1 else 1
    weight = jnp.where(length > 0, decay ** (length - largest).astype(level.dtype), 0.0)
    return jnp.sum(weight * (level[None, :] - level[:, None]) ** 2) / jnp.sum(weight)
