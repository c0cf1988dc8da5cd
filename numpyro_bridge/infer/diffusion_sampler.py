"""DiffusionSampler: learn a posterior from draws, or in rounds from the log joint alone."""

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import optax

from numpyro_bridge._core.checks import (
    MOST_STEPS,
    check_count,
    check_flag,
    check_function,
    check_optimizer,
)
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.stages import stage, stages
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.from_places import from_places
from numpyro_bridge.atlas.particles import Reference, tempered_particles
from numpyro_bridge.diffusion.denoiser import Denoiser, untrained_denoiser
from numpyro_bridge.diffusion.weightings import Weighting, uniform
from numpyro_bridge.draws.given import positions_and_weights
from numpyro_bridge.infer.amortise.context import Summaries, all_values
from numpyro_bridge.infer.amortise.learn import learn_amortised
from numpyro_bridge.infer.amortise.posterior import AmortisedPosterior
from numpyro_bridge.infer.check_model import check_model
from numpyro_bridge.infer.learning import LearningSettings, Network
from numpyro_bridge.infer.learning_on_charts import LearningOnCharts
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.target import Target
from numpyro_bridge.target.resolve import resolve_target
from numpyro_bridge.training.metrics import LossMetrics
from numpyro_bridge.training.remade import Remade
from numpyro_bridge.training.report import RunReport, Seconds

small_denoiser: partial[Denoiser] = partial(untrained_denoiser, width=96, depth=2)
"""The default network; a larger one would not learn more from a few thousand draws."""


class DiffusionSampler:
    """Train a denoiser on draws from a posterior, and weight the draws that it generates.

    >>> sampler = nb.DiffusionSampler(model)

    Given draws of NUTS or of any other sampler, it learns a posterior that can be sampled without
    end and kept in a small file, and that gives the evidence with its error:
    `sampler.run(rng_key, x, y=y, draws=mcmc.get_samples())`. Without draws it finds draws of its
    own: `sampler.run(rng_key, x, y=y)`.

    Where the draws fall into groups that lie apart, as those of several modes do, each group
    becomes a chart with an affine map and a denoiser of its own; `draws.chart` and
    `draws.chart_masses` tell them apart. A posterior of one piece has one chart, however skewed.

    The loss bounds the log density of the given draws and says nothing about regions that they
    miss. The evidence comes from the weights of `posterior.sample`, as for a bridge.

    Args:
        model: A NumPyro model, or a target made by `target_from_log_density`.
        denoiser: Makes the network from `(rng_key, dim)`, such as
            `partial(nb.diffusion.untrained_denoiser, width=256)`; two hidden layers of 96 units by
            default.
        num_steps: Steps of the process that generates and weights draws.
        num_iterations: Training iterations; if there are several rounds, in each of them.
        num_draws: Draws in the batch of an iteration.
        optimizer: An optax transformation over the arrays of the denoiser; by default Adam at 2e-3
            with a weight decay of 0.1, which matters where draws are few.
        with_scores: Whether to learn from the gradient of the log joint at the draws as well, by
            the target score identity. What the denoiser regresses on then has no noise where the
            posterior is normal, and far fewer draws suffice.
        max_charts: The largest number of charts; if there are more groups of draws, the nearest are
            joined. With 1 there is a single map and a single denoiser, which `as_distribution` and
            `as_guide` of the posterior need.
        start: Where particles come from if no draws are given: a function from `(rng_key, target,
            num)` to a reference, such as `atlas.particles.from_normal` with its settings bound. By
            default from the places that `nb.atlas.explore` finds, and from the prior or a wide
            normal distribution.
        num_particles: Particles that the first round learns from; each later round adds twice as
            many draws, and several charts share them.
        max_rounds: The largest number of rounds, if no draws are given.
        progress_bar: Whether to show progress while training, and a line after each round.
    """

    def __init__(
        self,
        model: Callable[..., Any] | Target,
        *,
        denoiser: Network = small_denoiser,
        num_steps: int = 64,
        num_iterations: int = 2_000,
        num_draws: int = 512,
        optimizer: optax.GradientTransformation | None = None,
        with_scores: bool = True,
        max_charts: int = 8,
        start: Callable[[RNGKey, Target, int], Reference] = from_places,
        num_particles: int = 4_000,
        max_rounds: int = 6,
        progress_bar: bool = True,
    ):
        check_model(model, "DiffusionSampler")
        check_function("denoiser", denoiser, "nb.diffusion.untrained_denoiser")
        check_function("start", start, "a function of (rng_key, target, num)")
        self.model = model
        self.denoiser = denoiser
        self.num_steps: int = check_count("num_steps", num_steps, 1, MOST_STEPS)
        self.num_iterations: int = check_count("num_iterations", num_iterations, 1)
        self.num_draws: int = check_count("num_draws", num_draws, 1)
        self.optimizer: optax.GradientTransformation = (
            _optimizer() if optimizer is None else optimizer
        )
        check_optimizer(self.optimizer)
        self.with_scores: bool = check_flag("with_scores", with_scores)
        self.max_charts: int = check_count("max_charts", max_charts, 1)
        self.start = start
        self.num_particles: int = check_count("num_particles", num_particles, 100)
        self.max_rounds: int = check_count("max_rounds", max_rounds, 1)
        self.progress_bar: bool = check_flag("progress_bar", progress_bar)

    def __repr__(self) -> str:
        return f"DiffusionSampler({name_of(self.model)}, num_steps={self.num_steps})"

    def run(
        self,
        rng_key: RNGKey,
        *args: Any,
        draws: Any = None,
        weighting: Weighting = uniform,
        **kwargs: Any,
    ) -> Posterior[LossMetrics]:
        """Learn the posterior; the sampler itself is not changed.

        With draws there is one round of training. Without draws there are several. The first round
        learns from particles of tempered sequential Monte Carlo. Every later round learns from the
        denoiser's own draws in all rounds before it, resampled by their weights and moved by
        Hamiltonian Monte Carlo. The rounds end when the effective sample size of the weights no
        longer rises. The best round is returned, and `report.rounds` has all of them. Several
        charts learn one after the other, each in rounds of its own.

        Args:
            rng_key: The same key gives the same result.
            *args: Positional arguments of the model.
            draws: Draws to learn from: values of the latent sites by name (`mcmc.get_samples()`),
                `nb.Draws` with their weights, or unconstrained positions, one a row. None to learn
                from the log joint alone.
            weighting: How much each noise level counts, from `nb.diffusion.weightings`.
            **kwargs: Keyword arguments of the model.

        Raises:
            ValueError: if the model cannot be sampled, or the draws do not fit its latent sites.
            RuntimeError: if tempering does not reach the target.
        """
        instead = "for many data sets use DiffusionSampler.amortise"
        inputs = (self.model, args, kwargs, draws)
        check_door("DiffusionSampler.run", rng_key, *inputs, instead=instead)
        check_function("weighting", weighting, "weightings.uniform")
        with stages(False):  # which are only for whoever interrupts one
            return self._run(rng_key, args, kwargs, draws, weighting)

    def _run(
        self, rng_key: RNGKey, args: tuple[Any, ...], kwargs: dict[str, Any], draws, weighting
    ):
        stage("reading the model")
        target_key, draw_key, run_key = jax.random.split(rng_key, 3)
        target = resolve_target(target_key, self.model, args, kwargs)
        if draws is not None:
            position, log_weight = positions_and_weights(target, draws)
            learning = self._learning_on_charts(run_key, target, position, log_weight, weighting)
            return learning.posterior(learning.from_draws(), RunReport(), 0)
        before = time.perf_counter()
        stage("moving particles to the posterior")
        reference = self.start(draw_key, target, self.num_particles)
        particles = tempered_particles(draw_key, target, reference)
        position, log_weight = particles.position, particles.log_weight
        seconds = Seconds(particles=time.perf_counter() - before)
        learning = self._learning_on_charts(run_key, target, position, log_weight, weighting)
        learned = learning.in_rounds(self.num_particles, self.max_rounds)
        report = RunReport(seconds=seconds, num_temperatures=particles.num_temperatures)
        return learning.posterior(learned, report, particles.num_gradient_evaluations)

    def _learning_on_charts(self, rng_key, target: Target, position, log_weight, weighting):
        return LearningOnCharts(
            self.learning, target, position, log_weight, weighting, rng_key, self.max_charts
        )

    def amortise(
        self,
        rng_key: RNGKey,
        *args: Any,
        num_simulations: int = 100_000,
        summaries: Summaries = all_values,
        weighting: Weighting = uniform,
        **kwargs: Any,
    ) -> AmortisedPosterior:
        """Learn the posterior of all data that the model may make, from simulations.

        It is trained once, and then conditioned on any data::

            amortised = sampler.amortise(jax.random.key(0), x, y=y)
            posterior = amortised.condition(x, y=y)

        Latent values are drawn from the prior, and data given these values. A network learns from
        such pairs a normal distribution of the latent values given the data; then a denoiser learns
        how the posterior differs from that normal distribution. Each of the two stages takes
        `num_iterations`; `max_charts`, `start`, `num_particles` and `max_rounds` play no part.

        Arguments of the model other than the data, such as covariates, keep the values of this
        call. To learn the posteriors for all covariates, make them observed sites. What the model
        reads of its data elsewhere than at `obs=`, such as a mask or the past of a series, also
        keeps the values of this call.

        Args:
            rng_key: The same key gives the same result.
            *args: Positional arguments of the model. Of the data among them only the shapes matter;
                the values may be any that the model could make.
            num_simulations: Number of simulated pairs for each of the two stages.
            summaries: What the networks are shown of the data: a function from a dictionary of the
                observed sites to numbers or arrays in a dictionary, list or tuple.
            weighting: How much each noise level counts, from `nb.diffusion.weightings`.
            **kwargs: Keyword arguments of the model.

        Raises:
            ValueError: if the model cannot simulate its data (it has a `numpyro.factor`, an
                improper prior, a distribution without a sampler, or no observed site), or if the
                denoiser does not read a context.
        """
        with stages(False):
            return learn_amortised(
                rng_key,
                self.model,
                self.learning,
                args,
                kwargs,
                num_simulations=num_simulations,
                summaries=summaries,
                weighting=weighting,
            )

    @property
    def learning(self) -> LearningSettings:
        """The settings that say how denoisers are learned."""
        return LearningSettings(
            self.denoiser,
            self.num_steps,
            self.optimizer,
            self.num_iterations,
            self.num_draws,
            self.with_scores,
            self.progress_bar,
        )


@cache
def _optimizer() -> optax.GradientTransformation:
    made = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=0.1))
    return Remade.of(made, _optimizer)
