"""Judge charts by draws from them: the weights say how well they cover the target together."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import brief_jit, compile_ahead
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.weights import effective_sample_size, pareto_smooth, tail_share
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.atlas.partition import MixturePartition
from numpyro_bridge.atlas.stacked import mixture_partition, row
from numpyro_bridge.atlas.standardised_target import log_weights_of
from numpyro_bridge.target import REPLACED_LOG_DENSITY, Target

NUM_DRAWS = 4_096
"""Draws that charts are judged by."""

NUM_PILOT = 1_024
"""Draws that the shares of the charts are found from, before the judging."""

BATCH = 1_024
"""Draws in each call of the compiled program."""

FEWEST = 32
"""Draws of each chart, however little of the mass is on it."""

GOOD_ESS, GOOD_TAIL = 0.5, 0.02
"""Charts whose draws are worth this share of independent ones, and whose tail carries at most this
share of the mass, need no bridge."""

LIGHT_TAIL = 0.01
"""Charts whose tail may carry more than this share of the mass are repaired where that helps."""


SAME_EVIDENCE = 0.01
"""Log evidences that differ by less, in nats, are the same."""

LEAST_EXCESS, MARGIN = 4.0, 1.0
"""A position is beyond the draws of charts if its weight would exceed their mean by the first
factor, and that of every draw by the second, in nats."""


def suffices(ess: float, tail_share: float) -> bool:
    """Whether draws of charts with these figures need no bridge."""
    return ess > GOOD_ESS and tail_share < GOOD_TAIL


def evidence_error(ess: float, num: float | int) -> float:
    """Standard error of a log evidence by draws of which this share is effective, in nats."""
    return math.sqrt((1 / ess - 1) / num) if ess > 0 else math.inf


class Judgement(NamedTuple):
    """What the draws of charts say about them."""

    partition: MixturePartition
    """The charts' own densities, with the shares in which the draws were made."""
    position: Float[np.ndarray, "num dim"]
    log_weight: Float[np.ndarray, " num"]
    log_evidence: float
    log_mass: Float[np.ndarray, " charts"]
    """Log of the mass that each chart is responsible for, in nats."""
    ess: float
    tail_share: float
    """The share of the mass that the heaviest draw and those beyond it may carry."""
    log_responsibility: Float[np.ndarray, "num charts"]
    """Log of the share that each chart has in each draw."""

    @property
    def log_evidence_error(self) -> float:
        """Standard error of the log evidence, in nats."""
        return evidence_error(self.ess, len(self.log_weight))

    @property
    def good(self) -> bool:
        """Whether the charts need no repair."""
        return suffices(self.ess, self.tail_share) and self.tail_share < LIGHT_TAIL

    @property
    def share(self) -> Float[np.ndarray, " charts"]:
        """The share of the mass that each chart is responsible for; zeros if there is no mass."""
        whole = np.logaddexp.reduce(self.log_mass)
        return np.exp(self.log_mass - whole) if np.isfinite(whole) else np.zeros(len(self.log_mass))

    def is_beyond(self, log_weight: Float[np.ndarray, " num"]) -> Bool[np.ndarray, " num"]:
        """Whether weights at other positions exceed those of all draws, by far."""
        largest = np.max(self.log_weight) - self.log_evidence
        return log_weight - self.log_evidence > max(LEAST_EXCESS, largest + MARGIN)

    def better_than(self, other: "Judgement") -> bool:
        """Whether to prefer these charts; good ones first, then by the number of good draws.

        But where the evidences differ by more than chance, the lower one leaves something out.
        """
        more = self.log_evidence - other.log_evidence
        chance = 3 * math.hypot(self.log_evidence_error, other.log_evidence_error)
        if abs(more) > chance + SAME_EVIDENCE:
            return more > 0
        return (self.good, self.ess) > (other.good, other.ess)


def judge(
    rng_key: RNGKey,
    target: Target,
    maps: Sequence[AbstractMap],
    log_mass: Float[np.ndarray, " charts"],
) -> Judgement:
    """Draw from the charts in shares like their masses, and weight the draws.

    Args:
        rng_key: The same key gives the same draws.
        target: The whole target, in its own coordinates.
        maps: The map of each chart.
        log_mass: A first guess of the mass of each chart, in nats up to a constant.
    """
    pilot_key, key = split(rng_key)
    if len(maps) > 1:
        log_mass = _judged(pilot_key, target, maps, log_mass, NUM_PILOT).log_mass
    return _judged(key, target, maps, log_mass, NUM_DRAWS)


def draws_of_chart(
    rng_key: RNGKey, target: Target, partition: MixturePartition, chart: int
) -> Float[np.ndarray, "num dim"]:
    """A thousand draws of one chart, by the program that judges charts."""
    return np.asarray(_weighted(rng_key, target, partition, on_device(chart))[0], float)


def compile_judging_ahead(rng_key: RNGKey, target: Target, maps: Sequence[AbstractMap]) -> None:
    """Begin to compile what `judge` calls for maps of these kinds."""
    partition = mixture_partition(maps, np.zeros(len(maps)))
    compile_ahead(_weighted, rng_key, target, partition, on_device(0))


def _judged(rng_key, target: Target, maps, log_mass, num: int) -> Judgement:
    counts = _counts(log_mass, num)
    log_share = np.log(counts / counts.sum())
    partition = mixture_partition(maps, log_share)
    positions, log_weights, log_masses = [], [], []
    for chart, count in enumerate(counts):
        for batch in range(-(-int(count) // BATCH)):
            size = min(BATCH, int(count) - batch * BATCH)
            key = fold_in(fold_in(rng_key, chart), batch)
            position, log_weight, log_shares = _weighted(key, target, partition, on_device(chart))
            positions.append(np.asarray(position)[:size])
            log_weights.append(np.asarray(log_weight, float)[:size] - log_share[chart])
            log_masses.append(np.asarray(log_shares, float)[:size, : len(maps)])
    position, log_weight = np.concatenate(positions), np.concatenate(log_weights)
    log_weight = np.where(np.isnan(log_weight), -np.inf, log_weight)
    log_responsibility = np.concatenate(log_masses)
    log_masses = log_weight[:, None] + log_responsibility
    return Judgement(
        partition,
        position,
        log_weight,
        float(np.logaddexp.reduce(log_weight) - np.log(len(log_weight))),
        np.logaddexp.reduce(log_masses, axis=0) - np.log(len(log_weight)),
        *quality_of(log_weight),
        log_responsibility,
    )


def quality_of(log_weight: Float[np.ndarray, " num"]) -> tuple[float, float]:
    """The effective share of draws, and the share of the mass that their tail may carry."""
    highest = np.max(log_weight)
    if not highest > 0.5 * REPLACED_LOG_DENSITY:  # the density is nowhere finite
        return 0.0, 1.0
    relative = log_weight - highest
    pareto_k = pareto_smooth(relative).pareto_k
    return effective_sample_size(relative), tail_share(relative, pareto_k)


def _counts(log_mass: Float[np.ndarray, " charts"], num: int) -> np.ndarray:
    """How many draws each chart makes: about its share, and a few at least."""
    mass = np.where(np.isfinite(log_mass), log_mass, -np.inf)
    if not np.isfinite(np.max(mass)):
        mass = np.zeros(len(mass))
    share = np.exp(mass - np.logaddexp.reduce(mass))
    return np.maximum(np.round(share * num), FEWEST).astype(int)


@brief_jit
def _weighted(rng_key, target: Target, partition: MixturePartition, chart):
    transform = row(partition.maps, chart)
    noise = jax.random.normal(rng_key, (BATCH, target.dim), jnp.result_type(float))
    position = jax.vmap(transform)(noise)
    log_shares = jax.vmap(partition.log_responsibilities)(position)
    # The piece of the chart, without evaluating the responsibilities once more.
    log_weight = log_weights_of(transform, target, noise) + log_shares[:, chart]
    return position, log_weight, log_shares


def log_weights_at(
    target: Target, partition: MixturePartition, position: Float[np.ndarray, "num dim"]
) -> tuple[Float[np.ndarray, " num"], Float[np.ndarray, " num"]]:
    """Log densities at positions, and the log weights of draws of the charts there, in nats."""
    num = len(position)
    batches = []
    for first in range(0, num, BATCH):
        index = np.minimum(np.arange(first, first + BATCH), num - 1)
        batches.append(np.asarray(_weights_at(target, partition, position[index]), float))
    return tuple(np.concatenate(batches, axis=1)[:, :num])


def nearest_chart(
    partition: MixturePartition, position: Float[np.ndarray, "num dim"]
) -> Int[np.ndarray, " num"]:
    """The number of the chart that is most responsible for each position."""
    nearest = []
    for first in range(0, len(position), BATCH):
        index = np.minimum(np.arange(first, first + BATCH), len(position) - 1)
        nearest.append(np.asarray(_nearest_charts(partition, position[index])))
    return np.concatenate(nearest)[: len(position)]


@brief_jit
def _nearest_charts(partition: MixturePartition, position):
    return jax.vmap(lambda x: jnp.argmax(partition.log_responsibilities(x)))(position)


def compile_weighing_ahead(target: Target, partition: MixturePartition) -> None:
    """Begin to compile what `log_weights_at` calls."""
    position = on_device(np.zeros((BATCH, target.dim)), jnp.result_type(float))
    compile_ahead(_weights_at, target, partition, position)


@brief_jit
def _weights_at(target: Target, partition: MixturePartition, position):
    def one(x):
        log_density = target.log_density(x)
        of_charts = partition.log_density(x) - 0.5 * x.size * math.log(2 * math.pi)
        return log_density, log_density - of_charts

    return jnp.stack(jax.vmap(one)(position))
