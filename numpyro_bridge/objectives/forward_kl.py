"""Forward Kullback–Leibler divergence: cover whatever the target has."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import described
from numpyro_bridge._core.devices import divide
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.objectives.base import check_request
from numpyro_bridge.objectives.sampling import Sampling, on_policy
from numpyro_bridge.processes.base import AbstractProcess
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.rescore import rescore_held
from numpyro_bridge.trajectories.simulate import simulate_backward
from numpyro_bridge.trajectories.trajectory import Trajectory


def forward_kl(
    rng_key: RNGKey,
    process: AbstractProcess[Any],
    target: Target,
    *,
    num_trajectories: int,
    sampling: Sampling = on_policy,
) -> tuple[Scalar, Trajectory]:
    r"""The divergence $\mathrm{KL}(\overleftarrow{p} \,\|\, \vec{p})$, by weighted trajectories.

    >>> sampler = nb.BridgeSampler(model, objective=nb.forward_kl)
    >>> loss, runs = nb.forward_kl(key, process, target, num_trajectories=8)
    >>> runs.log_weight.shape
    (8,)

    $$\nabla \mathcal{L} = \sum_i \bar w_i \left[(\log w_i - \overline{\log w})\,\nabla \log
      \overleftarrow{p}(x_i) - \nabla \log \vec{p}(x_i)\right], \qquad
      \bar w = w / \textstyle\sum w$$

    It covers modes that the reverse divergence drops, provided that some trajectory finds them. Its
    self-normalised weights are noisy where the effective sample size is small. Choose it late in
    training, mixed with `reverse_kl_ld`, or use `forward_kl_from_draws`.

    Args:
        rng_key: Randomness of the batch.
        process: The two chains; the gradient is with respect to its arrays.
        target: The density, unnormalised.
        num_trajectories: Batch size, at least 2.
        sampling: Where trajectories come from.

    Returns:
        The surrogate loss, and the trajectories it was estimated from.

    Raises:
        ValueError: if `num_trajectories` is below 2.

    Reference: the fKL-LD loss of Sanokowski et al. (2025), arXiv:2506.10982. Departs from it in the
    first term, which is needed where the backward chain is learned.
    """
    num_trajectories = check_request(
        rng_key, process, target, num_trajectories, sampling, compares="forward_kl"
    )
    batch = sampling(rng_key, process, target, num_trajectories)
    log_weight = jax.lax.stop_gradient(batch.runs.log_weight) + jnp.log(batch.weight)
    return _surrogate(batch.runs, jax.nn.softmax(log_weight)), batch.reported


class ForwardKLFromDraws(eqx.Module):
    """The loss that `forward_kl_from_draws` makes; compiled code takes its draws as an argument."""

    positions: Float[Array, "num dim"]

    def __call__(
        self,
        rng_key: RNGKey,
        process: AbstractProcess[Any],
        target: Target,
        *,
        num_trajectories: int,
    ) -> tuple[Scalar, Trajectory]:
        """The surrogate loss, and the backward trajectories it was estimated from.

        Raises:
            ValueError: if `num_trajectories` is below 2, or the draws have another dimension.
        """
        num_trajectories = check_request(
            rng_key, process, target, num_trajectories, compares="forward_kl_from_draws"
        )
        if self.positions.shape[1] != target.dim:
            raise ValueError(
                f"positions should have shape (num, {target.dim}), got {self.positions.shape}; "
                f"{UNCONSTRAINED}"
            )
        choice_key, run_key = jax.random.split(rng_key)
        # A draw of the whole posterior is one of a piece of it by the piece's responsibility.
        log_share = jax.vmap(target.log_responsibility)(self.positions)
        share = None if log_share is None else jax.nn.softmax(log_share)
        rows = jax.random.choice(choice_key, len(self.positions), (num_trajectories,), p=share)
        chosen = jax.vmap(target.from_model)(self.positions[rows])

        def states_from(key, position):
            return simulate_backward(key, process, target, position).states

        keys = divide(jax.random.split(run_key, num_trajectories))
        runs = rescore_held(process, target, jax.vmap(states_from)(keys, chosen))
        return _surrogate(runs, jnp.full(num_trajectories, 1 / num_trajectories)), runs


UNCONSTRAINED = (
    "they are unconstrained: jax.vmap(posterior.target.base.unconstrain)(mcmc.get_samples())"
)


def forward_kl_from_draws(positions: Float[Array | np.ndarray, "num dim"]) -> ForwardKLFromDraws:
    r"""Make the loss `forward_kl` from draws of the target, by backward trajectories from them.

    >>> positions = jax.random.normal(key, (1_000, 2))
    >>> objective = nb.forward_kl_from_draws(positions)
    >>> sampler = nb.BridgeSampler(target, objective=objective)

    $$\nabla \mathcal{L} = \mathbb{E}_{\overleftarrow{p}}\left[(\log w - \overline{\log w})\,\nabla
      \log \overleftarrow{p} - \nabla \log \vec{p}\right]$$

    Choose it where NUTS, sequential Monte Carlo or another sampler has found all modes. In place of
    the ELBO, training then reports the EUBO of these draws: the mean log weight of backward
    trajectories, which falls towards the log evidence. On several charts every chart learns from
    the draws that it is responsible for, and what is reported is weighted by the charts' shares.

    Args:
        positions: Draws in the unconstrained coordinates of the model, one a row, such as
            `jax.vmap(target.unconstrain)(mcmc.get_samples())`.

    Returns:
        A loss to be passed as `objective=`.

    Raises:
        ValueError: if the positions are not a table of finite numbers with at least one row.
    """
    if isinstance(positions, dict):
        raise ValueError(
            f"positions should be vectors, one a row, got values by site; {UNCONSTRAINED}"
        )
    if not np.issubdtype(getattr(positions, "dtype", np.asarray(positions).dtype), np.number):
        raise ValueError(
            f"positions must be an array of numbers of shape (num, dim), got "
            f"{described(positions)}; {UNCONSTRAINED}"
        )
    values = np.asarray(positions, float)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(
            f"positions should have shape (num, dim), got {values.shape}; {UNCONSTRAINED}"
        )
    num_wrong = np.count_nonzero(~np.isfinite(values))
    if num_wrong:
        raise ValueError(
            f"positions hold {num_wrong} numbers that are not finite; drop these draws, and make "
            "sure that the others are unconstrained"
        )
    return ForwardKLFromDraws(jnp.asarray(positions, jnp.result_type(float)))


def _surrogate(runs: Trajectory, share: Float[Array, " num"]) -> Scalar:
    """A number with the gradient of the divergence, where `share` is each trajectory's weight."""
    log_weight = jax.lax.stop_gradient(runs.log_weight)
    others = jnp.maximum(1 - share, jnp.finfo(share.dtype).eps)
    excess = (log_weight - share @ log_weight) / others
    return share @ (excess * runs.log_backward - runs.log_forward)
