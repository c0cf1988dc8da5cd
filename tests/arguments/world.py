"""The small objects that doors are called with, each made when it is first asked for."""

import inspect
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro

import numpyro_bridge as nb
from numpyro_bridge.atlas.judge import Judgement
from tests import targets
from tests.catalogue import narrow
from tests.posteriors import posterior_of

KEY = jax.random.key(0)
X, Y = targets.regression_data()
model = targets.regression


class World:
    """A regression with two unknowns, a bridge on it that needs no training, and so on."""

    @cached_property
    def target(self) -> Any:
        return nb.target_from_model(KEY, model, X, y=Y)

    @cached_property
    def plain(self) -> Any:
        return nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 2)

    @cached_property
    def position(self) -> Any:
        return jnp.zeros(2)

    @cached_property
    def process(self) -> Any:
        return nb.AnnealedLangevin(KEY, 2, num_steps=2)

    @cached_property
    def with_flow(self) -> Any:
        make = nb.objectives.with_log_flow(nb.AnnealedLangevin, width=4)
        return make(KEY, 2, num_steps=2)

    @cached_property
    def with_evidence(self) -> Any:
        return nb.objectives.with_log_evidence(nb.AnnealedLangevin)(KEY, 2, num_steps=2)

    @cached_property
    def remembering(self) -> Any:
        """A target with the trajectories of a replay buffer."""
        buffer = nb.ReplayBuffer(4, num_new=2)
        memory = zeros_like(lambda: buffer.start(KEY, self.process, self.plain))
        return buffer.shown(memory, self.plain)

    @cached_property
    def runs(self) -> Any:
        return zeros_like(lambda: nb.trajectories.simulate(KEY, self.process, self.plain))

    @cached_property
    def posterior(self) -> Any:
        return posterior_of(self.target, nb.processes.Direct(KEY, 2))

    @cached_property
    def draws(self) -> Any:
        return self.posterior.sample(KEY, 40)

    @cached_property
    def idata(self) -> Any:
        return nb.to_inference_data(self.draws, prior=False, log_likelihood=False)

    @cached_property
    def denoiser(self) -> Any:
        return nb.diffusion.untrained_denoiser(KEY, 2, width=4, depth=0)

    @cached_property
    def learned(self) -> Any:
        """A posterior whose process is a denoiser."""
        return posterior_of(self.target, nb.diffusion.DenoisingProcess(self.denoiser, 2))

    @cached_property
    def samples(self) -> Any:
        return nb.diffusion.Samples(jax.random.normal(KEY, (8, 2)))

    @cached_property
    def elbo_by_level(self) -> Any:
        return nb.diffusion.elbo_by_level(KEY, self.denoiser, self.samples, num_levels=3)

    @cached_property
    def comparison(self) -> Any:
        return nb.compare_models({"a": self.draws, "b": self.draws})

    @cached_property
    def side_by_side(self) -> Any:
        """The result of a comparison with NUTS, empty."""
        fields = dict.fromkeys(inspect.signature(nb.compare.Comparison).parameters)
        posterior, table = SimpleNamespace(metrics=None), SimpleNamespace(index=[])
        return nb.compare.Comparison(**{**fields, "posterior": posterior, "table": table})

    @cached_property
    def amortised(self) -> Any:
        """All that the methods of an amortised posterior look at before they compute."""
        fields = dict.fromkeys(inspect.signature(nb.infer.AmortisedPosterior).parameters)
        fields |= {"model": model, "target": self.target, "num_steps": 2, "report": None}
        return nb.infer.AmortisedPosterior(**fields)

    @cached_property
    def calibration(self) -> Any:
        ranks = {"w": jax.random.randint(KEY, (20, 2), 0, 20).__array__()}
        ess = jnp.ones(20).__array__()
        return nb.draws.Calibration(ranks, 19, ess, correction=None)

    @cached_property
    def guide(self) -> Any:
        """A guide that has seen its data, and the parameters that it begins with."""
        guide = nb.AutoBridge(model, process=small_process, standardise=nb.no_standardisation)
        with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
            guide(X, y=Y)
        params = {name: site["value"] for name, site in trace.items() if site["type"] == "param"}
        return SimpleNamespace(guide=guide, params=params)

    @cached_property
    def exploration(self) -> Any:
        normals = jax.tree.map(lambda leaf: leaf[None], nb.atlas.DenseMap(jnp.zeros(2), jnp.eye(2)))
        zeros = jnp.zeros(1).__array__()
        return nb.atlas.Exploration(normals, zeros, (1,), 0, 1, True, 0)

    @cached_property
    def judgement(self) -> Any:
        """What draws of a chart say; doors look at its type alone."""
        return Judgement(*[None] * len(Judgement._fields))

    @cached_property
    def algorithm(self) -> Any:
        return nb.as_blackjax(
            lambda x: -0.5 * jnp.sum(x**2),
            process=small_process,
            standardise=nb.no_standardisation,
            num_trajectories=4,
        )

    @cached_property
    def algorithm_state(self) -> Any:
        return self.algorithm.init(jnp.zeros(2))

    @cached_property
    def path_algorithm(self) -> Any:
        return nb.infer.path_metropolis(self.posterior)

    @cached_property
    def path_state(self) -> Any:
        return self.path_algorithm.init({"w": jnp.zeros(2)}, KEY)


def zeros_like(function: Callable[[], Any]) -> Any:
    """What a function returns, with zeros in place of its numbers, which are not computed."""
    shapes = eqx.filter_eval_shape(function)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def small_process(rng_key: Any, dim: int) -> Any:
    return nb.CMCD(rng_key, dim, num_steps=2, control=narrow(4, 0))
