"""Doors to denoisers, their losses and what is made with them, and to training."""

from functools import partial

import jax.numpy as jnp
import optax

import numpyro_bridge as nb
from tests.arguments.doors import Door
from tests.arguments.kinds import (
    COUNT,
    COUNT_OR_ZERO,
    FLAG,
    NOT_NEGATIVE,
    NOTHING,
    PATH,
    POSITIVE,
    count_from,
    optional,
)
from tests.arguments.kinds import KEY as A_KEY
from tests.arguments.world import KEY

LEARNING = {"rng_key": A_KEY, "denoiser": NOTHING, "samples": NOTHING}
CONTEXT = {"context": optional(NOTHING)}
TIMES = jnp.asarray([0.0, 0.5, 1.0])


def _made(function, kinds, **valid) -> Door:
    return Door(lambda world: function, lambda world: valid, kinds)


def _with_denoiser(function, kinds, *stops, traced=False, key=True, **valid) -> Door:
    """A function of a key and a denoiser."""
    keys = {"rng_key": KEY} if key else {}
    return Door(
        lambda world: function,
        lambda world: {**keys, "denoiser": world.denoiser, **valid},
        kinds,
        stops,
        traced,
    )


def _learning(function, kinds, *, traced=True, **valid) -> Door:
    return Door(
        lambda world: function,
        lambda world: {
            "rng_key": KEY,
            "denoiser": world.denoiser,
            "samples": world.samples,
            **valid,
        },
        {**LEARNING, **kinds},
        ("diffusion.elbo_by_level:_errors",),
        traced,
    )


SCHEDULE = {"schedule": optional(NOTHING)}
LEVELS = {"num_levels": count_from(2), "num_draws": COUNT}

LOSSES = {
    "diffusion_elbo": _learning(
        nb.diffusion_elbo, {"num_draws": COUNT, "weighting": NOTHING, **SCHEDULE}
    ),
    "flow_matching": _learning(nb.flow_matching, {"num_draws": COUNT}),
    "diffusion.negative_elbo": _learning(nb.diffusion.negative_elbo, {"num_draws": COUNT}),
    "diffusion.elbo_by_level": _learning(nb.diffusion.elbo_by_level, LEVELS, traced=False),
    "diffusion.adapted_schedule": _learning(
        nb.diffusion.adapted_schedule, {"weighting": NOTHING, **LEVELS}, traced=False
    ),
}


def _of_levels(name: str, kinds, **valid) -> Door:
    return Door(lambda world: getattr(world.elbo_by_level, name), lambda world: valid, kinds)


DENOISERS = {
    "diffusion.untrained_denoiser": _made(
        nb.diffusion.untrained_denoiser,
        {
            "rng_key": A_KEY,
            "dim": COUNT,
            "width": COUNT,
            "depth": COUNT_OR_ZERO,
            "context_size": COUNT_OR_ZERO,
            "schedule": optional(NOTHING),
            "prediction": NOTHING,
        },
        rng_key=KEY,
        dim=2,
        width=4,
        depth=1,
    ),
    "diffusion.Denoiser": _made(
        nb.diffusion.Denoiser,
        {"network": NOTHING, "schedule": NOTHING, "prediction": NOTHING},
        network=jnp.zeros_like,
    ),
    "diffusion.DenoisingProcess": _with_denoiser(
        nb.diffusion.DenoisingProcess,
        {"denoiser": NOTHING, "dim": COUNT, "num_steps": COUNT, **SCHEDULE},
        key=False,
        dim=2,
        num_steps=2,
    ),
    "diffusion.with_flow_path": _with_denoiser(
        nb.diffusion.with_flow_path, {"denoiser": NOTHING}, key=False
    ),
    "diffusion.ElboByLevel.loss": _of_levels("loss", {"weighting": NOTHING}),
    "diffusion.ElboByLevel.loss_from_parts": _of_levels("loss_from_parts", {"weighting": NOTHING}),
    "diffusion.ElboByLevel.mass": _of_levels(
        "mass", {"weighting": NOTHING}, weighting=nb.diffusion.weightings.flow
    ),
    "diffusion.ElboByLevel.plot": Door(
        lambda world: lambda weightings, axes: world.elbo_by_level.plot(weightings, axes=axes),
        lambda world: {"weightings": nb.diffusion.weightings.flow, "axes": None},
        {"weightings": NOTHING, "axes": optional(NOTHING)},
    ),
}

FLOW = {"num": COUNT, "dim": COUNT, "num_steps": COUNT}
GENERATION = {
    "rng_key": A_KEY,
    "denoiser": NOTHING,
    "step": NOTHING,
    "times": NOTHING,
    "dim": count_from(2),
    **CONTEXT,
}
_generating = partial(_with_denoiser, traced=True, step=nb.diffusion.ddim_step, times=TIMES, dim=2)

MADE = {
    "diffusion.generate": _generating(nb.diffusion.generate, GENERATION),
    "diffusion.generate_many": _generating(
        nb.diffusion.generate_many, {**GENERATION, "num": COUNT}, num=2
    ),
    "diffusion.even_times": _made(nb.diffusion.even_times, {"num_steps": COUNT}, num_steps=2),
    "diffusion.churned_step": _made(
        nb.diffusion.churned_step, {"amount": NOT_NEGATIVE}, amount=0.5
    ),
    "diffusion.curvature": _with_denoiser(
        nb.diffusion.curvature,
        {"rng_key": A_KEY, "denoiser": NOTHING, **FLOW},
        "diffusion.reflow:_curvature",
        dim=2,
    ),
    "diffusion.reflow_pairs": _with_denoiser(
        nb.diffusion.reflow_pairs,
        {"rng_key": A_KEY, "denoiser": NOTHING, **FLOW, **CONTEXT},
        "diffusion.reflow:_reflow_pairs",
        num=2,
        dim=2,
    ),
    "diffusion.flow_of": _with_denoiser(
        nb.diffusion.flow_of,
        {"denoiser": NOTHING, "noise": NOTHING, **CONTEXT, "tolerance": POSITIVE},
        "diffusion.density:solved",
        key=False,
        noise=jnp.zeros(2),
    ),
    "diffusion.log_density": _with_denoiser(
        nb.diffusion.log_density,
        {
            "denoiser": NOTHING,
            "clean": NOTHING,
            **CONTEXT,
            "rng_key": optional(A_KEY),
            "num_probes": COUNT,
            "tolerance": POSITIVE,
        },
        "diffusion.density:solved",
        key=False,
        clean=jnp.zeros(2),
    ),
}


TRAINING = {
    "bridge_optimizer": _made(
        nb.bridge_optimizer,
        {
            **dict.fromkeys(("control", "diffusion", "annealing", "log_evidence"), NOT_NEGATIVE),
            "max_norm": POSITIVE,
        },
    ),
    "training.fit": Door(
        lambda world: nb.training.fit,
        lambda world: {
            "rng_key": KEY,
            "module": world.process,
            "loss": partial(nb.reverse_kl, num_trajectories=2),
            "data": world.target,
            "optimizer": optax.adam(1e-3),
            "num_iterations": 3,
        },
        {
            "rng_key": A_KEY,
            "module": NOTHING,
            "loss": NOTHING,
            "optimizer": NOTHING,
            "num_iterations": COUNT,
            "trainable": NOTHING.also("true"),
            "curriculum": NOTHING,
            "tolerance": NOT_NEGATIVE,
            "metrics": NOTHING,
            "checkpoint": optional(PATH),
            "devices": optional(NOTHING),
            "mesh": optional(NOTHING),
            "progress_bar": FLAG,
        },
        ("training.loop:_first_memory",),
    ),
}

DOORS = LOSSES | DENOISERS | MADE | TRAINING
