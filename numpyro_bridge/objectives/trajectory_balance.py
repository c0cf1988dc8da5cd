"""Trajectory balance: every log weight should equal a log evidence that is learned too."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from numpyro_bridge._core.checks import check_function, check_instance, check_number
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import check_request
from numpyro_bridge.objectives.log_evidence import LogEvidence
from numpyro_bridge.objectives.sampling import Sampling, on_policy
from numpyro_bridge.processes.base import AbstractProcess, AbstractWrapper
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.trajectory import Trajectory


class WithLogEvidence(AbstractWrapper[Any]):
    """A process and an estimate of the log evidence, to be learned together.

    >>> both = nb.objectives.WithLogEvidence(process, log_evidence=-14.0)
    >>> float(both.log_evidence.value)
    -14.0

    Args:
        process: The process whose evidence is learned.
        log_evidence: First value of the estimate, in nats.
    """

    process: AbstractProcess[Any]
    log_evidence: LogEvidence

    def __init__(self, process: AbstractProcess[Any], log_evidence: float = 0.0):
        check_instance("process", process, AbstractProcess, "nb.CMCD(rng_key, dim)")
        self.process = process
        self.log_evidence = LogEvidence(check_number("log_evidence", log_evidence))


def with_log_evidence(
    process: Callable[..., AbstractProcess[Any]], log_evidence: float = 0.0
) -> Callable[..., WithLogEvidence]:
    """Make the constructor of a process one that `trajectory_balance` can train.

    >>> process = nb.objectives.with_log_evidence(nb.CMCD, -70.0)
    >>> sampler = nb.BridgeSampler(model, process=process, objective=nb.trajectory_balance)

    Args:
        process: A constructor, such as `nb.CMCD` or a partial of it.
        log_evidence: First guess, in nats, such as the ELBO of a standardisation. A guess that is
            far off dominates the loss until the evidence is learned.

    Raises:
        ValueError: if the guess is not finite, or `process` cannot be called with its settings.
    """
    check_function("process", process, "nb.CMCD")
    log_evidence = check_number("log_evidence", log_evidence)

    @functools.wraps(process)
    def make(*args, **kwargs) -> WithLogEvidence:
        return WithLogEvidence(process(*args, **kwargs), log_evidence)

    return make


def trajectory_balance(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: Target,
    *,
    num_trajectories: int,
    sampling: Sampling = on_policy,
) -> tuple[Scalar, Trajectory]:
    r"""Half the mean squared difference between log weights and a learned log evidence.

    >>> process = nb.objectives.with_log_evidence(nb.CMCD)
    >>> sampler = nb.BridgeSampler(model, process=process, objective=nb.trajectory_balance)

    $$\mathcal{L} = \tfrac12\,\mathbb{E}\left[(\log w - \log \hat Z)^2\right]$$

    `log_variance` is this loss with the best log evidence for each batch. Both have the same
    weakness: where the backward chain or the noise is learned, the gradient is not that of a
    divergence.

    Args:
        rng_key: Randomness of the batch.
        process: A process from `with_log_evidence`.
        target: The density, unnormalised.
        num_trajectories: Batch size.
        sampling: Where trajectories come from; the loss is right for any.

    Returns:
        The loss in nats squared, and the trajectories it was estimated from.

    Raises:
        TypeError: if the process has no log evidence to learn.

    Reference: Malkin et al. (2022), arXiv:2201.13259.
    """
    num_trajectories = check_request(rng_key, process, target, num_trajectories, sampling)
    if not isinstance(process, WithLogEvidence):
        inner, got = (type(x).__name__ for x in (process.innermost, process))
        raise TypeError(
            "process: trajectory_balance learns the log evidence with the process; write "
            f"process=nb.objectives.with_log_evidence(nb.{inner}), got {got}"
        )
    batch = sampling(rng_key, process, target, num_trajectories)
    difference = batch.runs.log_weight - process.log_evidence.value
    return 0.5 * jnp.mean(difference**2), batch.reported
