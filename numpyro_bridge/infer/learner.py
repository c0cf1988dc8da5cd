"""Learner: one run of `DiffusionSampler`."""

import time
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core import weights
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.diffusion_elbo import diffusion_elbo
from numpyro_bridge.diffusion.noise import VPCosine
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
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.target import Target
from numpyro_bridge.training.metrics import LossMetrics, concatenate
from numpyro_bridge.training.report import Round, RunReport
from numpyro_bridge.training.training import Training
from numpyro_bridge.trajectories.simulate import simulate_many

MIN_RISE = 1.05
"""Another round follows if the last one raised the effective sample size by this factor."""


class Learner:
    """One run: the target, standardised by its draws, and the denoiser that is trained on it."""

    def __init__(
        self,
        settings: LearningSettings,
        target: Target,
        position: Float[Array, "num dim"],
        log_weight: Float[Array, " num"],
        weighting: Weighting,
        rng_key: RNGKey,
    ):
        usable = jnp.all(jnp.isfinite(position), axis=1) & jnp.isfinite(log_weight)
        transform = map_of_draws(
            jnp.where(usable[:, None], position, 0.0), jnp.where(usable, log_weight, -jnp.inf)
        )
        self.settings = settings
        self.weighting = weighting
        self.target = StandardisedTarget(target, transform)
        self.denoiser: Denoiser = settings.denoiser(jax.random.fold_in(rng_key, 0), target.dim)
        self.schedule = training_levels(self.denoiser, with_scores=settings.with_scores)
        self.num_scores = 0

    def learn(self, rng_key, position, log_weight) -> Training[LossMetrics]:
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

    def in_rounds(self, rng_key, position, log_weight, *, num_particles: int, max_rounds: int):
        """Train on draws and make new ones, in turns, until the weights no longer improve."""
        best, trainings, rounds = self.denoiser, [], []
        num, store = 2 * num_particles, None
        for number in range(1, max_rounds + 1):
            learn_key, draw_key, pick_key, move_key = jax.random.split(
                jax.random.fold_in(rng_key, number), 4
            )
            before = time.perf_counter()
            trainings.append(self.learn(learn_key, position, log_weight))
            drawn, drawn_weight = self._draw(draw_key, num)
            ess = float(weights.effective_sample_size(drawn_weight))
            smoothed = weights.pareto_smooth(drawn_weight)
            evidence = float(weights.log_evidence(drawn_weight)[0])
            highest = max((one.ess for one in rounds), default=0.0)
            seconds = time.perf_counter() - before
            rounds.append(Round(ess, evidence, smoothed.pareto_k, seconds))
            self._show(number, rounds[-1])
            best = self.denoiser if ess > highest else best
            if ess < MIN_RISE * highest or number == max_rounds:
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
        return best, trainings, rounds

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
            print(
                f"round {number}: ESS {one.ess:.3f}, log evidence {one.log_evidence:.3f}, "
                f"k-hat {one.pareto_k:.2f}, {one.seconds:.0f} s"
            )

    def posterior(
        self, denoiser, trainings: list[Training[LossMetrics]], report: RunReport, spent: int
    ) -> Posterior[LossMetrics]:
        """Make the result; `spent` gradients were evaluated to find particles."""
        report = replace(
            report,
            process="DenoisingProcess",
            objective="diffusion_elbo",
            weighting=name_of(self.weighting),
            num_gradient_evaluations=self.num_scores + spent,
        )
        return Posterior(
            self._process(denoiser),
            self.target,
            Standardisation(self.target.map),
            concatenate([training.metrics for training in trainings]),
            report.after(*trainings),
        )


@eqx.filter_jit
def _weighted_draws(
    rng_key, process: DenoisingProcess, target: StandardisedTarget, num: int
) -> tuple[Float[Array, "num dim"], Float[Array, " num"]]:
    runs = simulate_many(rng_key, process, target, num)
    return runs.states.position[:, -1], runs.log_weight
