"""Learner: the denoiser of one chart, or of the whole posterior, in a run of `DiffusionSampler`."""

import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core import weights
from numpyro_bridge._core.stages import stage
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.diffusion_elbo import diffusion_elbo
from numpyro_bridge.diffusion.noise import AbstractNoiseSchedule, VPCosine
from numpyro_bridge.diffusion.process import DenoisingProcess
from numpyro_bridge.diffusion.weightings import Weighting
from numpyro_bridge.infer.learning import (
    LearningSettings,
    Watched,
    map_of_draws,
    samples_of,
    trained,
    training_levels,
)
from numpyro_bridge.target import Target
from numpyro_bridge.training.metrics import LossMetrics
from numpyro_bridge.training.report import Round
from numpyro_bridge.training.training import Stop, Training
from numpyro_bridge.trajectories.simulate import simulate_many

MIN_RISE = 1.05
"""Another round follows if the last one raised the effective sample size by this factor."""

NUM_PILOT = 1_000
"""Draws of a chart that its evidence is estimated from, where there are no rounds."""


class Learned(NamedTuple):
    """What came of learning on one chart."""

    process: DenoisingProcess
    """With the denoiser of the best round."""
    trainings: list[Training[LossMetrics]]
    rounds: list[Round]
    log_evidence: float | None
    """Log evidence of the chart's piece, in nats; None where a single map learned from draws."""


class Learner:
    """The denoiser of one target, which may be a chart's piece, standardised by weighted draws.

    Args:
        settings: How denoisers are learned.
        target: The target, or the piece of it that a chart is responsible for.
        position: Draws, one a row, in the coordinates of the target.
        log_weight: Their log weights on this target.
        weighting: How much each noise level counts.
        rng_key: Randomness of the untrained network.
        chart: The number of the chart; None where there is a single map.
    """

    def __init__(
        self,
        settings: LearningSettings,
        target: Target,
        position: Float[Array, "num dim"],
        log_weight: Float[Array, " num"],
        weighting: Weighting,
        rng_key: RNGKey,
        chart: int | None = None,
    ):
        usable = jnp.all(jnp.isfinite(position), axis=1) & jnp.isfinite(log_weight)
        transform = map_of_draws(
            jnp.where(usable[:, None], position, 0.0), jnp.where(usable, log_weight, -jnp.inf)
        )
        self.settings = settings
        self.weighting = weighting
        self.draws: tuple[Float[Array, "num dim"], Float[Array, " num"]] = position, log_weight
        self.chart = chart
        self.target: StandardisedTarget = StandardisedTarget(target, transform)
        self.denoiser: Denoiser = settings.denoiser(jax.random.fold_in(rng_key, 0), target.dim)
        self.schedule: AbstractNoiseSchedule = training_levels(
            self.denoiser, with_scores=settings.with_scores
        )
        self.num_scores: int = 0

    def from_draws(self, rng_key: RNGKey) -> Learned:
        """Train once on the draws; the evidence of a chart is estimated from its own draws."""
        stage(f"learning{self._where}")
        return self._learned([self.learn(rng_key, *self.draws)], rng_key)

    def untrained(self, rng_key: RNGKey) -> Learned:
        """What there is without any training, after Ctrl-C was pressed."""
        return self._learned([], rng_key)

    def _learned(self, trainings: list[Training[LossMetrics]], rng_key) -> Learned:
        evidence = None
        if self.chart is not None:
            # Given draws may have the masses of the modes wrong, as those of NUTS often have.
            _, drawn_weight = self._draw(jax.random.fold_in(rng_key, 1), NUM_PILOT)
            evidence = self._log_evidence(drawn_weight)
        return Learned(self._process(self.denoiser), trainings, [], evidence)

    @property
    def _where(self) -> str:
        return "" if self.chart is None else f" on chart {self.chart}"

    def learn(
        self, rng_key: RNGKey, position: Float[Array, "num dim"], log_weight: Float[Array, " num"]
    ) -> Training[LossMetrics]:
        """Train the denoiser further on weighted draws, given in the target's own coordinates."""
        settings = self.settings
        samples = samples_of(self.target, position, log_weight, with_scores=settings.with_scores)
        self.num_scores += int(jnp.sum(jnp.isfinite(log_weight)))
        loss = jax.tree_util.Partial(
            Watched(diffusion_elbo, settings.num_draws),
            weighting=self.weighting,
            schedule=self.schedule,
        )
        training = trained(rng_key, settings, self.denoiser, loss, samples)
        self.denoiser = training.module
        return training

    def in_rounds(self, rng_key: RNGKey, *, num_particles: int, max_rounds: int) -> Learned:
        """Train on draws and make new ones, in turns, until the weights no longer improve.

        Of several charts those are left alone whose weights another round could not improve.
        """
        position, log_weight = self.draws
        best, trainings, rounds = self.denoiser, [], []
        enough = 1.0 if self.chart is None else 1 / MIN_RISE
        num, store = 2 * num_particles, None
        for number in range(1, max_rounds + 1):
            learn_key, draw_key, pick_key, move_key = jax.random.split(
                jax.random.fold_in(rng_key, number), 4
            )
            before = time.perf_counter()
            stage(f"learning{self._where} in round {number}")
            trainings.append(self.learn(learn_key, position, log_weight))
            drawn, drawn_weight = self._draw(draw_key, num)
            ess = weights.effective_sample_size(drawn_weight)
            smoothed = weights.pareto_smooth(drawn_weight)
            evidence = self._log_evidence(drawn_weight)
            highest = max((one.ess for one in rounds), default=0.0)
            seconds = time.perf_counter() - before
            rounds.append(Round(ess, evidence, smoothed.pareto_k, seconds, self.chart or 0))
            self._show(number, rounds[-1])
            best = self.denoiser if ess > highest else best
            interrupted = trainings[-1].stopped is Stop.INTERRUPTED
            last = interrupted or number == max_rounds
            if last or ess < MIN_RISE * highest or ess > enough:
                break
            index = weights.resample_indices(pick_key, smoothed.log_weight, num)
            # All rounds fill one store of fixed size, so that nothing is compiled for it twice.
            if store is None:
                rows = (max_rounds - 1) * num
                store = jnp.zeros((rows, self.target.dim), position.dtype), jnp.full(rows, -jnp.inf)
            rows = slice((number - 1) * num, number * num)
            moved = jax.vmap(self.target.map)(refreshed(move_key, self.target, drawn[index]))
            store = store[0].at[rows].set(moved), store[1].at[rows].set(0.0)
            position, log_weight = store
        evidence = max(rounds, key=lambda one: one.ess).log_evidence
        return Learned(self._process(best), trainings, rounds, evidence)

    def _log_evidence(self, log_weight) -> float:
        """The estimate of draws, in nats, with what the target leaves out of its density."""
        return float(weights.log_evidence(log_weight)[0]) + self.target.innermost.log_scale

    def _draw(self, rng_key, num: int):
        process = self._process(self.denoiser)
        position, log_weight = _weighted_draws(rng_key, process, self.target, num)
        self.num_scores += num
        # A weight that is not a number comes from a path that overflowed, and counts as zero.
        return position, jnp.where(jnp.isfinite(log_weight), log_weight, -jnp.inf)

    def _process(self, denoiser: Denoiser) -> DenoisingProcess:
        num_steps = self.settings.num_steps
        return DenoisingProcess(denoiser, self.target.dim, num_steps=num_steps, schedule=VPCosine())

    def _show(self, number: int, one: Round) -> None:
        if self.settings.progress_bar:
            where = "" if self.chart is None else f"chart {self.chart}, "
            print(
                f"{where}round {number}: ESS {one.ess:.3f}, log evidence {one.log_evidence:.3f}, "
                f"k-hat {one.pareto_k:.2f}, {one.seconds:.0f} s"
            )


@eqx.filter_jit
def _weighted_draws(
    rng_key, process: DenoisingProcess, target: StandardisedTarget, num: int
) -> tuple[Float[Array, "num dim"], Float[Array, " num"]]:
    runs = simulate_many(rng_key, process, target, num)
    return runs.states.position[:, -1], runs.log_weight
