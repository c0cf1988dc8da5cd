"""Doors to samplers, posteriors, files, guides and kernels."""

from pathlib import Path

import jax
import jax.numpy as jnp

import numpyro_bridge as nb
from tests.arguments.doors import Door, reached
from tests.arguments.kinds import (
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    NOTHING,
    NUMBER,
    PATH,
    POSITIVE,
    SHARE,
    TEXT,
    count_from,
    optional,
)
from tests.arguments.kinds import KEY as A_KEY
from tests.arguments.world import KEY, X, Y, model

DATA = {"args": (X,), "kwargs": {"y": Y}}
ONE_DEVICE = jax.make_mesh((1,), ("trajectories",), devices=jax.devices()[:1])
STAGES = {"explore": NOTHING, "charts": NOTHING, "standardise": optional(NOTHING)}

SAMPLERS = {
    "BridgeSampler": Door(
        lambda world: nb.BridgeSampler,
        lambda world: {"model": model},
        {
            "model": NOTHING,
            "process": optional(NOTHING),
            "objective": NOTHING,
            **STAGES,
            "optimizer": optional(NOTHING),
            "num_iterations": COUNT,
            "num_trajectories": count_from(2),
            "curriculum": NOTHING,
            "tolerance": NOT_NEGATIVE,
            "trainable": optional(NOTHING).also("true"),
            "checkpoint": optional(PATH),
            "devices": optional(NOTHING).also(list_of_devices=jax.devices()[:1]),
            "mesh": optional(NOTHING).also(one_device=ONE_DEVICE),
            "progress_bar": FLAG,
        },
    ),
    "BridgeSampler.run": Door(
        lambda world: nb.BridgeSampler(model, progress_bar=False).run,
        lambda world: {"rng_key": KEY, **DATA},
        {"rng_key": A_KEY},
        ("infer.one_run:resolve_target",),
    ),
    "BridgeSampler.run_many": Door(
        lambda world: nb.BridgeSampler(model, progress_bar=False).run_many,
        lambda world: {"rng_key": KEY, "data_sets": {"y": jnp.stack([Y, Y])}, "args": (X,)},
        {"rng_key": A_KEY, "data_sets": NOTHING},
        ("infer.bridge_sampler:run_many",),
    ),
    "infer.ManyPosteriors": Door(
        lambda world: nb.infer.ManyPosteriors,
        lambda world: {"results": (world.posterior,)},
        {"results": NOTHING},
    ),
    "infer.ManyPosteriors.sample": Door(
        lambda world: nb.infer.ManyPosteriors((world.posterior,)).sample,
        lambda world: {"rng_key": KEY, "num_samples": 8},
        {"rng_key": A_KEY, "num_samples": COUNT},
    ),
    "DiffusionSampler": Door(
        lambda world: nb.DiffusionSampler,
        lambda world: {"model": model},
        {
            "model": NOTHING,
            "denoiser": NOTHING,
            "num_steps": COUNT,
            "num_iterations": COUNT,
            "num_draws": COUNT,
            "optimizer": optional(NOTHING),
            "with_scores": FLAG,
            "max_charts": COUNT,
            "start": NOTHING,
            "num_particles": count_from(100),
            "max_rounds": COUNT,
            "progress_bar": FLAG,
        },
    ),
    "DiffusionSampler.run": Door(
        lambda world: nb.DiffusionSampler(model, progress_bar=False, start=reached).run,
        lambda world: {"rng_key": KEY, "draws": jnp.zeros((9, 2)), **DATA},
        {"rng_key": A_KEY, "draws": optional(NOTHING), "weighting": NOTHING},
        ("infer.diffusion_sampler:LearningOnCharts",),
    ),
    "DiffusionSampler.amortise": Door(
        lambda world: nb.DiffusionSampler(model, progress_bar=False).amortise,
        lambda world: {"rng_key": KEY, **DATA},
        {
            "rng_key": A_KEY,
            "num_simulations": count_from(100),
            "summaries": NOTHING,
            "weighting": NOTHING,
        },
        ("infer.amortise.learn:target_from_model",),
    ),
    "as_blackjax": Door(
        lambda world: nb.as_blackjax,
        lambda world: {"logdensity_fn": jnp.sum},
        {
            "logdensity_fn": NOTHING,
            "process": NOTHING,
            "objective": NOTHING,
            **STAGES,
            "optimizer": optional(NOTHING),
            "num_trajectories": count_from(2),
        },
    ),
    "as_blackjax().init": Door(
        lambda world: world.algorithm.init,
        lambda world: {"position": jnp.zeros(2)},
        {
            "position": NUMBER.also("list", "not a number"),
            "rng_key": optional(A_KEY),
        },
        ("infer.blackjax:_target_of",),
    ),
    "as_blackjax().step": Door(
        lambda world: world.algorithm.step,
        lambda world: {"rng_key": KEY, "state": world.algorithm_state},
        {"rng_key": A_KEY, "state": NOTHING},
        ("infer.blackjax:gradient_step",),
    ),
    "as_blackjax().sample": Door(
        lambda world: world.algorithm.sample,
        lambda world: {"rng_key": KEY, "state": world.algorithm_state},
        {"rng_key": A_KEY, "state": NOTHING, "num_samples": COUNT},
        ("infer.blackjax:_draw",),
    ),
    "infer.path_metropolis": Door(
        lambda world: nb.infer.path_metropolis,
        lambda world: {"posterior": world.posterior},
        {"posterior": NOTHING},
    ),
    "infer.path_metropolis().init": Door(
        lambda world: world.path_algorithm.init,
        lambda world: {"position": {"w": jnp.zeros(2)}, "rng_key": KEY},
        {"position": NOTHING, "rng_key": A_KEY},
        traced=True,
    ),
    "infer.path_metropolis().step": Door(
        lambda world: world.path_algorithm.step,
        lambda world: {"rng_key": KEY, "state": world.path_state},
        {"rng_key": A_KEY, "state": NOTHING},
        traced=True,
    ),
}

POSTERIORS = {
    "Posterior.sample": Door(
        lambda world: world.posterior.sample,
        lambda world: {"rng_key": KEY},
        {
            "rng_key": A_KEY,
            "num_samples": COUNT,
            "exclude": NOTHING.also(no_names=[]),
            "devices": optional(NOTHING).also(list_of_devices=jax.devices()[:1]),
            "mesh": optional(NOTHING).also(one_device=ONE_DEVICE),
        },
        ("infer.posterior:drawn",),
    ),
    "Posterior.predictive": Door(
        lambda world: world.posterior.predictive,
        lambda world: {"rng_key": KEY},
        {
            "rng_key": A_KEY,
            "num_samples": COUNT,
            "return_sites": optional(NOTHING).also(list_of_names=["y"]),
        },
        ("infer.posterior:drawn",),
    ),
    "Posterior.run_backward": Door(
        lambda world: world.posterior.run_backward,
        lambda world: {"rng_key": KEY, "draws": jnp.zeros((3, 2))},
        {
            "rng_key": A_KEY,
            "draws": NOTHING.also(
                by_site={"w": jnp.zeros((3, 2))}, of_NumPy=jnp.zeros((3, 2)).__array__()
            ),
        },
        ("infer.posterior:backward_log_weights",),
    ),
    "Posterior.chart_shares": Door(
        lambda world: world.posterior.chart_shares,
        lambda world: {"draws": jnp.zeros((3, 2))},
        {"draws": NOTHING},
    ),
    "Posterior.as_guide": Door(
        lambda world: world.learned.as_guide,
        lambda world: {},
        {"num_steps": COUNT},
        ("infer.posterior:FlowGuide",),
    ),
    "Posterior.save": Door(
        lambda world: world.posterior.save,
        lambda world: {"path": Path("saved.bridge")},
        {"path": PATH},
    ),
    "refit": Door(
        lambda world: nb.refit,
        lambda world: {"rng_key": KEY, "posterior": world.posterior, "args": (X,), "kwargs": {}},
        {"rng_key": A_KEY, "posterior": NOTHING},
        ("infer.refit:sampler_from",),
    ),
    "load": Door(
        lambda world: nb.load,
        lambda world: {"path": "4", "model": model},
        {
            "path": PATH,
            "model": NOTHING,
            "process": optional(NOTHING),
            "coordinate_map": optional(NOTHING),
        },
        ("infer.load:read_posterior",),
    ),
    "load_amortised": Door(
        lambda world: nb.load_amortised,
        lambda world: {"path": "4", "model": model},
        {"path": PATH, "model": NOTHING, "summaries": NOTHING, "denoiser": optional(NOTHING)},
        ("infer.amortise.posterior:load_header",),
    ),
    "infer.AmortisedPosterior.calibrate": Door(
        lambda world: world.amortised.calibrate,
        lambda world: {"rng_key": KEY},
        {
            "rng_key": A_KEY,
            "num_simulations": count_from(20),
            "num_draws": count_from(20),
            "correction": optional(NOTHING).also(name="psis"),
        },
        ("infer.amortise.posterior:simulated",),
    ),
    "infer.AmortisedPosterior.save": Door(
        lambda world: world.amortised.save,
        lambda world: {"path": "4"},
        {"path": PATH},
        ("infer.amortise.posterior:describe_whole",),
    ),
    "infer.PosteriorDistribution.sample": Door(
        lambda world: world.learned.as_distribution().sample,
        lambda world: {"key": KEY},
        {"key": A_KEY, "sample_shape": NOTHING.also("list")},
        ("infer.distribution:flow_of",),
    ),
    "infer.PosteriorDistribution.log_prob": Door(
        lambda world: world.learned.as_distribution().log_prob,
        lambda world: {"value": jnp.zeros(2)},
        {"value": NOTHING.also("list")},
        ("infer.distribution:log_density",),
    ),
    "infer.PosteriorDistribution.sites": Door(
        lambda world: world.learned.as_distribution().sites,
        lambda world: {"value": jnp.zeros(2)},
        {"value": NOTHING.also("list")},
    ),
}

PARAMS = {"params": NOTHING}


def _guide(name: str, kinds, *stops, **valid) -> Door:
    return Door(
        lambda world: getattr(world.guide.guide, name),
        lambda world: {"params": world.guide.params, **valid},
        kinds,
        stops,
    )


NUMPYRO = {
    "AutoBridge": Door(
        lambda world: nb.AutoBridge,
        lambda world: {"model": model},
        {
            "model": NOTHING,
            "process": NOTHING,
            **STAGES,
            "prefix": TEXT,
            "init_loc_fn": optional(NOTHING),
            "init_scale": POSITIVE,
        },
    ),
    "AutoBridge.bridge": _guide("bridge", PARAMS),
    "AutoBridge.to_posterior": _guide("to_posterior", {**PARAMS, "losses": optional(NOTHING)}),
    "AutoBridge.median": _guide("median", PARAMS, "infer.svi.auto_bridge:draw_sites"),
    "AutoBridge.quantiles": _guide(
        "quantiles",
        {**PARAMS, "quantiles": SHARE.also("zero").also(levels=[0.1, 0.9])},
        "infer.svi.auto_bridge:draw_sites",
        quantiles=0.5,
    ),
    "AutoBridge.sample_posterior": _guide(
        "sample_posterior",
        {"rng_key": A_KEY, **PARAMS, "sample_shape": NOTHING.also("list")},
        "infer.svi.auto_bridge:draw_sites",
        rng_key=KEY,
    ),
    "AutoBridge.params_from": Door(
        lambda world: world.guide.guide.params_from,
        lambda world: {"posterior": world.posterior},
        {"posterior": NOTHING},
    ),
    "BridgeKernel": Door(
        lambda world: nb.BridgeKernel,
        lambda world: {"model": model},
        {"model": NOTHING, "local_kernel": optional(NOTHING), "training_key": optional(A_KEY)},
    ),
    "TraceObjective": Door(
        lambda world: nb.TraceObjective,
        lambda world: {"objective": nb.reverse_kl},
        {"objective": NOTHING, "num_particles": COUNT},
    ),
    "TraceReverseKLLD": Door(
        lambda world: nb.TraceReverseKLLD, lambda world: {}, {"num_particles": COUNT}
    ),
    "TraceLogVariance": Door(
        lambda world: nb.TraceLogVariance, lambda world: {}, {"num_particles": COUNT}
    ),
}

DOORS = SAMPLERS | POSTERIORS | NUMPYRO
