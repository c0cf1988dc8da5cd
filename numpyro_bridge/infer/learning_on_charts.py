"""LearningOnCharts: one run of `DiffusionSampler`, with a denoiser for each chart."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.atlas import SMALLEST_SHARE
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.fit_normal import DENSE_LIMIT
from numpyro_bridge.atlas.groups import groups_of
from numpyro_bridge.atlas.partition import Piece, StudentPartition
from numpyro_bridge.atlas.stacked import in_rows, padded_logs, stack, student_partition
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.diffusion.weightings import Weighting
from numpyro_bridge.infer.learner import Learned, Learner
from numpyro_bridge.infer.learning import LearningSettings
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.target import Target
from numpyro_bridge.training.metrics import LossMetrics, concatenate
from numpyro_bridge.training.report import RunReport
from numpyro_bridge.training.training import Stop
from numpyro_bridge.trajectories.ends import SeenTarget

FEWEST_PARTICLES = 500
"""Where several charts share the number of particles, each has at least this many."""


class LearningOnCharts:
    """The charts of weighted draws, and a learner for each; a single one where they are one group.

    All learners see all draws, weighted by the responsibility of their chart, so that the shapes do
    not differ and one compiled program trains all of them.

    Args:
        settings: How denoisers are learned.
        target: The target.
        position: Draws, one a row, in the coordinates of the target.
        log_weight: Their log weights.
        weighting: How much each noise level counts.
        rng_key: The same key gives the same result.
        max_charts: The largest number of charts.
    """

    def __init__(
        self,
        settings: LearningSettings,
        target: Target,
        position: Float[Array, "num dim"],
        log_weight: Float[Array, " num"],
        weighting: Weighting,
        rng_key: RNGKey,
        max_charts: int,
    ):
        self.target = target
        self.weighting = weighting
        self.partition: StudentPartition | None = _partition(
            rng_key, position, log_weight, max_charts
        )
        if self.partition is None:
            self.keys: Sequence[RNGKey] = [rng_key]
            self.learners: list[Learner] = [
                Learner(settings, target, position, log_weight, weighting, rng_key)
            ]
            return
        num = int(np.sum(np.isfinite(np.asarray(self.partition.log_mass))))
        self.keys = list(jax.random.split(rng_key, num))
        log_shares = jax.vmap(self.partition.log_responsibilities)(position)
        self.learners = [
            Learner(
                settings,
                Piece(target, self.partition, jnp.asarray(chart)),
                position,
                log_weight + log_shares[:, chart],
                weighting,
                self.keys[chart],
                chart,
            )
            for chart in range(num)
        ]

    def from_draws(self) -> list[Learned]:
        """Train the denoiser of every chart on the draws, one after the other."""
        return self._learned(lambda learner, key: learner.from_draws(key))

    def in_rounds(self, num_particles: int, max_rounds: int) -> list[Learned]:
        """Train every chart in rounds of its own, one chart after the other."""
        num = num_particles
        if len(self.learners) > 1:
            num = max(FEWEST_PARTICLES, num_particles // len(self.learners))
        return self._learned(
            lambda learner, key: learner.in_rounds(key, num_particles=num, max_rounds=max_rounds)
        )

    def _learned(self, learn: Callable[[Learner, RNGKey], Learned]) -> list[Learned]:
        """Let one chart learn after the other; after Ctrl-C the others stay as they are."""
        learned: list[Learned] = []
        for learner, key in zip(self.learners, self.keys, strict=True):
            trainings = [training for one in learned for training in one.trainings]
            ended = any(training.stopped is Stop.INTERRUPTED for training in trainings)
            learned.append(learner.untrained(key) if ended else learn(learner, key))
        return learned

    def posterior(
        self, learned: list[Learned], report: RunReport, spent: int
    ) -> Posterior[LossMetrics]:
        """Make the result; `spent` gradients were evaluated to find particles."""
        processes = [one.process for one in learned]
        trainings = [training for one in learned for training in one.trainings]
        scores = sum(learner.num_scores for learner in self.learners)
        report = replace(
            report,
            process="DenoisingProcess",
            objective="diffusion_elbo",
            weighting=name_of(self.weighting),
            num_gradient_evaluations=scores + spent,
            rounds=tuple(one_round for one in learned for one_round in one.rounds),
        )
        return Posterior(
            processes[0] if len(processes) == 1 else stack(processes),
            self._seen(learned),
            Standardisation(self.learners[0].target.map),
            concatenate([training.metrics for training in trainings]),
            report.after(*trainings),
        )

    def _seen(self, learned: list[Learned]) -> SeenTarget:
        """The target on one chart, or on several whose draws are shared out by their masses."""
        if self.partition is None:
            return self.learners[0].target
        evidence = np.asarray([one.log_evidence for one in learned], float)
        evidence = np.where(np.isfinite(evidence), evidence, -np.inf)
        if np.all(evidence == -np.inf):
            evidence = np.zeros(len(evidence))
        share = np.exp(evidence - np.logaddexp.reduce(evidence))
        share = np.maximum(share, SMALLEST_SHARE)
        return ChartedTarget(
            self.target,
            in_rows([learner.target.map for learner in self.learners]),
            self.partition,
            padded_logs(np.log(share / share.sum())),
        )


def _partition(rng_key: RNGKey, position, log_weight, max_charts: int):
    """Divides positions among the groups of the draws; None where they are one group."""
    if max_charts == 1 or position.shape[1] > DENSE_LIMIT:
        return None
    # With a key of its own, so that a single chart is learned as if nobody had looked for more.
    charts = groups_of(jax.random.fold_in(rng_key, 2**31), position, log_weight, max_charts)
    return None if charts is None else student_partition(*charts)
