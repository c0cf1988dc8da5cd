"""DiffusionSampler: learn a posterior from draws, or from the log joint alone by rounds."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_function, check_key
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.particles import (
    Reference,
    from_prior_or_fit,
    refreshed,
    tempered_particles,
)
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion.denoiser import Denoiser, untrained_denoiser
from numpyro_bridge.diffusion.diffusion_elbo import diffusion_elbo
from numpyro_bridge.diffusion.noise import VPCosine
from numpyro_bridge.diffusion.process import DenoisingProcess
from numpyro_bridge.diffusion.weightings import Weighting, uniform
from numpyro_bridge.draws import weights
from numpyro_bridge.draws.given import positions_and_weights
from numpyro_bridge.infer.amortise.context import Summaries, all_values
from numpyro_bridge.infer.amortise.learn import learn_amortised
from numpyro_bridge.infer.amortise.posterior import AmortisedPosterior
from numpyro_bridge.infer.learning import (
    Network,
    Watched,
    map_of_draws,
    samples_of,
    trained,
    training_levels,
)
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.target import Target
from numpyro_bridge.target.resolve import resolve_target
from numpyro_bridge.training.metrics import LossMetrics, concatenate
from numpyro_bridge.training.report import Round, RunReport, Seconds
from numpyro_bridge.training.training import Training
from numpyro_bridge.trajectories.simulate import simulate_many

MIN_RISE = 1.05
"""A round is worth another one if it raised the effective sample size by this factor."""


small_denoiser = partial(untrained_denoiser, width=96, depth=2)
"""The default network: a few thousand draws do not teach a larger one more."""


class DiffusionSampler:
    """Train a denoiser on draws of a posterior, and weigh what it generates.

    From draws of NUTS or any other sampler it makes a small file that can be sampled without end,
    with the evidence and its error; without draws it finds its own:

        sampler = nb.DiffusionSampler(model)
        posterior = sampler.run(jax.random.key(0), x, y=y, draws=mcmc.get_samples())
        posterior = sampler.run(jax.random.key(0), x, y=y)

    The loss bounds the log density of the draws it is given; it says nothing of what they miss.
    The evidence comes from the weights of `posterior.sample`, as for a bridge.

    Args:
        model: A NumPyro model, or a target made by `target_from_log_density`.
        denoiser: Makes the network from `(rng_key, dim)`, such as
            `partial(nb.diffusion.untrained_denoiser, width=256)`; two hidden layers of 96 units by
            default.
        num_steps: Steps of the process that generates and weighs.
        num_iterations: Training iterations, in each round if there are several.
        num_draws: Draws in the batch of an iteration.
        optimizer: An optax transformation over the arrays of the denoiser; Adam at 2e-3 with
            a weight decay of 0.1 by default, which matters where draws are few.
        with_scores: Learn from the gradient of the log joint at the draws as well, by the target
            score identity: the noise of the target then vanishes where the posterior is normal,
            and far fewer draws suffice. Without it only the draws count.
        start: Where particles come from if no draws are given: `(rng_key, target, num)` to a
            reference, such as `infer.particles.from_normal` with its settings bound.
        num_particles: Particles that the first round learns from; each later round adds twice as
            many draws.
        max_rounds: Rounds at most, where no draws are given.
        progress_bar: Show progress while training, and a line after each round.
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
        start: Callable[[RNGKey, Target, int], Reference] = from_prior_or_fit,
        num_particles: int = 4_000,
        max_rounds: int = 6,
        progress_bar: bool = True,
    ):
        if not callable(model) and not isinstance(model, Target):
            raise ValueError(
                "model must be a NumPyro model (a function) or a target, got "
                f"{type(model).__name__}; for a log density write "
                "nb.DiffusionSampler(nb.target_from_log_density(fn, dim))"
            )
        if min(num_steps, num_iterations, num_draws, max_rounds) < 1 or num_particles < 100:
            raise ValueError(
                "num_steps, num_iterations, num_draws and max_rounds should be at least 1, and "
                f"num_particles at least 100; got {num_steps}, {num_iterations}, {num_draws}, "
                f"{max_rounds} and {num_particles}"
            )
        self.model = model
        self.denoiser = denoiser
        self.num_steps = num_steps
        self.num_iterations = num_iterations
        self.num_draws = num_draws
        self.optimizer = _optimizer() if optimizer is None else optimizer
        self.with_scores = with_scores
        self.start = start
        self.num_particles = num_particles
        self.max_rounds = max_rounds
        self.progress_bar = progress_bar

    def run(
        self,
        rng_key: RNGKey,
        *args: Any,
        draws: Any = None,
        weighting: Weighting = uniform,
        **kwargs: Any,
    ) -> Posterior[LossMetrics]:
        """Learn the posterior; the sampler itself remembers nothing.

        With draws there is one round of training. Without, rounds: particles of tempered sequential
        Monte Carlo train the denoiser; its own draws, resampled by their weights and moved by
        Hamiltonian Monte Carlo, train it further, together with those of the rounds before; and so
        on until the effective sample size of its weights no longer rises. The best round is
        returned, and every round is in `report.rounds`.

        Args:
            rng_key: The same key gives the same result.
            *args: Positional arguments of the model.
            draws: Draws to learn from: values of the latent sites by name (`mcmc.get_samples()`),
                `nb.Draws` with their weights, or unconstrained positions, one a row. None to learn
                from the log joint alone.
            weighting: How much each noise level counts, from `objectives.weightings`.
            **kwargs: Keyword arguments of the model.

        Raises:
            ValueError: if the model cannot be sampled, or the draws are not those of its sites.
            RuntimeError: if tempering does not arrive at the target.
        """
        check_key(rng_key)
        check_function("weighting", weighting, "weightings.uniform")
        target_key, draw_key, run_key = jax.random.split(rng_key, 3)
        target = resolve_target(target_key, self.model, args, kwargs)
        if draws is not None:
            position, log_weight = positions_and_weights(target, draws)
            learner = _Learner(self, target, position, log_weight, weighting, run_key)
            training = learner.learn(run_key, position, log_weight)
            return learner.posterior(training.module, [training], RunReport(), 0)
        before = time.perf_counter()
        reference = self.start(draw_key, target, self.num_particles)
        particles = tempered_particles(draw_key, target, reference)
        position, log_weight = particles.position, particles.log_weight
        seconds = Seconds(particles=time.perf_counter() - before)
        learner = _Learner(self, target, position, log_weight, weighting, run_key)
        best, trainings, rounds = learner.in_rounds(run_key, position, log_weight)
        report = RunReport(
            seconds=seconds, num_temperatures=particles.num_temperatures, rounds=tuple(rounds)
        )
        return learner.posterior(best, trainings, report, particles.num_gradient_evaluations)

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

            amortised = sampler.amortise(jax.random.key(0), x, y=y)
            posterior = amortised.condition(x, y=y)

        Latent values are drawn from the prior and data given them. A normal law given the data
        learns from these pairs, then a denoiser what this law leaves. Other arguments than the
        data (covariates) are those of this call; to learn for all covariates, make them observed
        sites. What a model reads of its data elsewhere than at `obs=`, such as a mask or the past
        of a series, is held at the values of this call too. Each stage takes `num_iterations`;
        `start`, `num_particles` and `max_rounds` play no part.

        Args:
            rng_key: The same key gives the same result.
            *args: Positional arguments of the model; the data among them give their shapes, and may
                be any that the model could make.
            num_simulations: Pairs for each of the two stages.
            summaries: What the networks look at: a function from the data, a dictionary of the
                observed sites, to numbers or arrays in a dictionary, list or tuple.
            weighting: How much each noise level counts, from `objectives.weightings`.
            **kwargs: Keyword arguments of the model.

        Raises:
            ValueError: if the model cannot simulate its data (`numpyro.factor`, improper priors, no
                observed site, a distribution without a sampler), or the denoiser reads no context.
        """
        settings = {"num_simulations": num_simulations, "summaries": summaries}
        return learn_amortised(rng_key, self, args, kwargs, weighting=weighting, **settings)


class _Learner:
    """One run: a target in the coordinates of its draws, and a denoiser that is trained there."""

    def __init__(self, sampler, target, position, log_weight, weighting: Weighting, rng_key):
        usable = jnp.all(jnp.isfinite(position), axis=1) & jnp.isfinite(log_weight)
        map = map_of_draws(
            jnp.where(usable[:, None], position, 0.0), jnp.where(usable, log_weight, -jnp.inf)
        )
        self.sampler = sampler
        self.weighting = weighting
        self.target = StandardisedTarget(target, map)
        self.denoiser: Denoiser = sampler.denoiser(jax.random.fold_in(rng_key, 0), target.dim)
        self.schedule = training_levels(self.denoiser, with_scores=sampler.with_scores)
        self.num_scores = 0

    def learn(self, rng_key, position, log_weight) -> Training[LossMetrics]:
        """Train the denoiser further, on draws in the target's own coordinates."""
        sampler = self.sampler
        samples = samples_of(self.target, position, log_weight, with_scores=sampler.with_scores)
        self.num_scores += int(jnp.sum(jnp.isfinite(log_weight)))
        loss = jax.tree_util.Partial(
            Watched(diffusion_elbo, sampler.num_draws),
            weighting=self.weighting,
            schedule=self.schedule,
        )
        training = trained(rng_key, sampler, self.denoiser, loss, samples)
        self.denoiser = training.module
        return training

    def in_rounds(self, rng_key, position, log_weight):
        """Train, draw, weigh and refresh until the weights no longer get better."""
        best, trainings, rounds = self.denoiser, [], []
        num, store = 2 * self.sampler.num_particles, None
        for number in range(1, self.sampler.max_rounds + 1):
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
            if ess < MIN_RISE * highest or number == self.sampler.max_rounds:
                break
            index = weights.resample_indices(pick_key, smoothed.log_weight, num)
            # One store for all rounds, filled in turn: what is compiled for it serves every round.
            if store is None:
                rows = (self.sampler.max_rounds - 1) * num
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
        # A weight that is not a number is that of a path which left the numbers: it counts nothing.
        return position, jnp.where(jnp.isfinite(log_weight), log_weight, -jnp.inf)

    def _process(self, denoiser: Denoiser) -> DenoisingProcess:
        num_steps = self.sampler.num_steps
        return DenoisingProcess(denoiser, self.target.dim, num_steps=num_steps, schedule=VPCosine())

    def _show(self, number: int, one: Round) -> None:
        if self.sampler.progress_bar:
            print(
                f"round {number}: ESS {one.ess:.3f}, log evidence {one.log_evidence:.3f}, "
                f"k-hat {one.pareto_k:.2f}, {one.seconds:.0f} s"
            )

    def posterior(
        self, denoiser, trainings: list[Training[LossMetrics]], report: RunReport, spent: int
    ) -> Posterior[LossMetrics]:
        """The result, after particles on which so many gradients were spent."""
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


def _optimizer() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=0.1))
