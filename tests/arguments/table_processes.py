"""Doors to processes and their parts, to trajectories and to losses."""

from functools import partial

import jax.numpy as jnp

import numpyro_bridge as nb
from tests.arguments.doors import Door
from tests.arguments.kinds import (
    COUNT,
    COUNT_OR_ZERO,
    NOTHING,
    NUMBER,
    POSITIVE,
    count_from,
    optional,
)
from tests.arguments.kinds import (
    KEY as A_KEY,
)
from tests.arguments.world import KEY
from tests.catalogue import narrow

MAKE = {"rng_key": A_KEY, "dim": COUNT}
STEPS = {**MAKE, "num_steps": COUNT}
OVERDAMPED = {**STEPS, "diffusion": POSITIVE}
UNDERDAMPED = {
    **STEPS,
    "step_size": POSITIVE,
    "friction": POSITIVE,
    "integrator": optional(NOTHING),
}
INITIAL, CONTROL = {"initial": optional(NOTHING)}, {"control": NOTHING}


def _constructor(make, kinds) -> Door:
    settings = {"control": narrow(4, 0)} if "control" in kinds else {}
    return Door(
        lambda world: make,
        lambda world: {"rng_key": KEY, "dim": 2, "num_steps": 2, **settings},
        kinds,
    )


def _part(make, kinds, **valid) -> Door:
    return Door(lambda world: make, lambda world: valid, kinds)


CONSTRUCTORS = {
    "CMCD": _constructor(nb.CMCD, {**OVERDAMPED, **INITIAL, **CONTROL}),
    "MCD": _constructor(nb.MCD, {**OVERDAMPED, **INITIAL, **CONTROL}),
    "DBS": _constructor(nb.DBS, {**OVERDAMPED, **INITIAL, **CONTROL}),
    "PIS": _constructor(nb.PIS, {**STEPS, "diffusion": optional(POSITIVE), **CONTROL}),
    "DDS": _constructor(nb.DDS, {**OVERDAMPED, **CONTROL}),
    "DIS": _constructor(nb.DIS, {**OVERDAMPED, **CONTROL}),
    "AnnealedLangevin": _constructor(nb.AnnealedLangevin, {**OVERDAMPED, **INITIAL}),
    "UHA": _constructor(nb.UHA, {**UNDERDAMPED, **INITIAL}),
    "LDVI": _constructor(nb.LDVI, {**UNDERDAMPED, **INITIAL, **CONTROL}),
    "UnderdampedCMCD": _constructor(nb.UnderdampedCMCD, {**UNDERDAMPED, **INITIAL, **CONTROL}),
    "UnderdampedDBS": _constructor(nb.UnderdampedDBS, {**UNDERDAMPED, **INITIAL, **CONTROL}),
    "UnderdampedDIS": _constructor(nb.UnderdampedDIS, {**UNDERDAMPED, **CONTROL}),
    "processes.Direct": _part(nb.processes.Direct, MAKE, rng_key=KEY, dim=2),
}

PARTS = {
    "processes.Diffusion": _part(
        nb.processes.Diffusion,
        {"num_steps": COUNT, "dim": COUNT, "scale": POSITIVE, "rates": optional(NOTHING)},
        num_steps=2,
        dim=2,
        scale=0.5,
    ),
    "processes.AnnealingSchedule": _part(
        nb.processes.AnnealingSchedule, {"num_steps": COUNT}, num_steps=2
    ),
    "processes.UnderdampedScales": _part(
        nb.processes.UnderdampedScales,
        {"num_steps": COUNT, "dim": COUNT, "step_size": POSITIVE, "friction": POSITIVE},
        num_steps=2,
        dim=2,
        step_size=0.5,
        friction=1.0,
    ),
    "processes.InitialNormal": _part(
        nb.processes.InitialNormal, {"dim": COUNT, "scale": POSITIVE}, dim=2
    ),
    "processes.InitialMixture": _part(
        nb.processes.InitialMixture,
        {"log_weights": NOTHING, "means": NOTHING, "factors": NOTHING},
        log_weights=jnp.zeros(1),
        means=jnp.zeros((1, 2)),
        factors=jnp.eye(2)[None],
    ),
    "processes.ScoreInformedControl": _part(
        nb.processes.ScoreInformedControl,
        {**MAKE, "width": COUNT, "depth": COUNT_OR_ZERO, "num_inputs": optional(COUNT)},
        rng_key=KEY,
        dim=2,
        width=4,
        depth=0,
    ),
    "ReplayBuffer": _part(nb.ReplayBuffer, {"capacity": count_from(256), "num_new": COUNT}),
    "Tempering": _part(nb.Tempering, {"temperature": POSITIVE, "num_iterations": COUNT}),
}

CHAINS = {"rng_key": A_KEY, "process": NOTHING, "target": NOTHING}
BATCH = {**CHAINS, "num_trajectories": COUNT}
SAMPLED = {**BATCH, "sampling": NOTHING}


def _run(function, kinds, process="process", target="plain", **settings) -> Door:
    return Door(
        lambda world: function,
        lambda world: {
            "rng_key": KEY,
            "process": getattr(world, process),
            "target": getattr(world, target),
            **settings,
        },
        kinds,
        traced=True,
    )


_loss = partial(_run, num_trajectories=2)

LOSSES = {
    "reverse_kl": _loss(nb.reverse_kl, BATCH),
    "reverse_kl_ld": _loss(nb.reverse_kl_ld, SAMPLED),
    "reverse_kl_path": _loss(nb.reverse_kl_path, BATCH),
    "log_variance": _loss(nb.log_variance, SAMPLED),
    "forward_kl": _loss(nb.forward_kl, SAMPLED),
    "trajectory_balance": _loss(nb.trajectory_balance, SAMPLED, "with_evidence"),
    "sub_trajectory_balance": _loss(
        nb.sub_trajectory_balance, {**SAMPLED, "decay": POSITIVE}, "with_flow"
    ),
    "objectives.on_policy": _loss(nb.objectives.on_policy, BATCH),
    "objectives.replayed": _loss(
        nb.objectives.replayed,
        {**BATCH, "num_trajectories": count_from(4)},
        target="remembering",
        num_trajectories=4,
    ),
    "objectives.widened": _loss(nb.objectives.widened, {**BATCH, "factor": POSITIVE}),
    "forward_kl_from_draws": _part(
        nb.forward_kl_from_draws, {"positions": NOTHING}, positions=jnp.zeros((3, 2))
    ),
    "mixed": Door(
        lambda world: lambda parts: nb.mixed(parts),
        lambda world: {"parts": (1.0, nb.reverse_kl)},
        {"parts": NOTHING},
    ),
    "objectives.with_log_evidence": _part(
        nb.objectives.with_log_evidence,
        {"process": NOTHING, "log_evidence": NUMBER},
        process=nb.CMCD,
    ),
    "objectives.with_log_flow": _part(
        nb.objectives.with_log_flow,
        {"process": NOTHING, "log_evidence": NUMBER, "width": COUNT},
        process=nb.CMCD,
    ),
    "objectives.WithLogEvidence": Door(
        lambda world: nb.objectives.WithLogEvidence,
        lambda world: {"process": world.process},
        {"process": NOTHING, "log_evidence": NUMBER},
    ),
    "objectives.WithLogFlow": Door(
        lambda world: nb.objectives.WithLogFlow,
        lambda world: {"rng_key": KEY, "dim": 2, "process": world.process},
        {**MAKE, "process": NOTHING, "log_evidence": NUMBER, "width": COUNT},
    ),
    "objectives.OverCharts": _part(
        nb.objectives.OverCharts, {"objective": NOTHING}, objective=nb.reverse_kl
    ),
}

TRAJECTORIES = {
    "trajectories.simulate": _run(nb.trajectories.simulate, CHAINS),
    "trajectories.simulate_many": _loss(nb.trajectories.simulate_many, BATCH),
    "trajectories.simulate_backward": _run(
        nb.trajectories.simulate_backward, {**CHAINS, "position": NOTHING}, position=jnp.zeros(2)
    ),
    "trajectories.rescore": Door(
        lambda world: nb.trajectories.rescore,
        lambda world: {
            "process": world.process,
            "target": world.plain,
            "states": world.runs.states,
        },
        {"process": NOTHING, "target": NOTHING, "states": NOTHING},
        traced=True,
    ),
}

DOORS = CONSTRUCTORS | PARTS | LOSSES | TRAJECTORIES
