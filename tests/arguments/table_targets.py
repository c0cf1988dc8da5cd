"""Doors to targets, and to what is seen of them before a sampler is made."""

import jax.numpy as jnp

import numpyro_bridge as nb
from numpyro_bridge._core import memory
from tests.arguments.doors import Door
from tests.arguments.kinds import (
    COUNT,
    COUNT_OR_ZERO,
    FLAG,
    NOTHING,
    POSITIVE,
    count_from,
    optional,
)
from tests.arguments.kinds import KEY as A_KEY
from tests.arguments.world import KEY, X, Y, model

POSITION = {"position": NOTHING}
SEARCH = {"rng_key": A_KEY, "num": COUNT_OR_ZERO}


def _limit_for_a_moment(num_bytes):
    before = memory.memory_limit()
    try:
        nb.set_memory_limit(num_bytes)
    finally:
        nb.set_memory_limit(before)


MAKERS = {
    "set_memory_limit": Door(
        lambda world: _limit_for_a_moment, lambda world: {"num_bytes": 2e9}, {"num_bytes": POSITIVE}
    ),
    "target_from_model": Door(
        lambda world: nb.target_from_model,
        lambda world: {"rng_key": KEY, "model": model, "args": (X,), "kwargs": {"y": Y}},
        {"rng_key": A_KEY, "model": NOTHING},
        ("target.from_model:_read_model",),
    ),
    "target_from_log_density": Door(
        lambda world: nb.target_from_log_density,
        lambda world: {"fn": lambda x: -0.5 * jnp.sum(x**2), "dim": 2},
        {"fn": NOTHING, "dim": COUNT},
    ),
}


def _method(target: str, name: str, kinds, **valid) -> Door:
    """A method of a target, which is only traced."""
    return Door(
        lambda world: getattr(getattr(world, target), name), lambda world: valid, kinds, traced=True
    )


def _methods(of: str, target: str) -> dict[str, Door]:
    zeros = jnp.zeros(2)
    values = {"w": zeros} if target == "target" else {"x": zeros}
    names = ("at", "log_density", "constrain", "by_site")
    here = {name: _method(target, name, POSITION, position=zeros) for name in names}
    here["joined"] = _method(target, "joined", {"values": NOTHING}, values=values)
    for name in ("initial_positions", "starting_points", "prior_positions"):
        here[name] = _method(target, name, SEARCH, rng_key=KEY, num=2)
    return {f"{of}.{name}": door for name, door in here.items()}


TARGETS = {
    **_methods("target.ModelTarget", "target"),
    **_methods("target.LogDensityTarget", "plain"),
    "target.ModelTarget.log_prior": _method("target", "log_prior", POSITION, position=jnp.zeros(2)),
    "target.ModelTarget.log_likelihood": _method(
        "target", "log_likelihood", POSITION, position=jnp.zeros(2)
    ),
    "target.ModelTarget.unconstrain": _method(
        "target", "unconstrain", {"sites": NOTHING}, sites={"w": jnp.zeros(2)}
    ),
}

STAGE = {"rng_key": A_KEY, "target": NOTHING}


def _stage(function, kinds, *stops, **more) -> Door:
    return Door(
        lambda world: function,
        lambda world: {
            "rng_key": KEY,
            "target": world.target,
            **{name: value(world) for name, value in more.items()},
        },
        kinds,
        stops,
    )


STAGES = {
    "no_standardisation": _stage(nb.no_standardisation, STAGE),
    "standardise": _stage(
        nb.standardise,
        {
            **STAGE,
            "candidates": optional(NOTHING),
            "num_starts": COUNT,
            "starts": optional(NOTHING),
            "nonlinear": FLAG,
        },
        "atlas.standardisation:starting_points",
    ),
    "atlas.explore": _stage(
        nb.atlas.explore, {**STAGE, "max_rounds": COUNT}, "atlas.explore:_climbed"
    ),
    "atlas.chart": _stage(
        nb.atlas.chart,
        {
            **STAGE,
            "exploration": NOTHING,
            "bend": FLAG,
            "divide": FLAG,
            "moves_suffice": optional(NOTHING),
            "temper": optional(NOTHING),
            "max_rounds": COUNT,
            "max_gradient_evaluations": COUNT_OR_ZERO.also("huge"),
        },
        "atlas.chart:_charted",
        exploration=lambda world: world.exploration,
    ),
    "atlas.temper": _stage(
        nb.atlas.temper,
        {
            **STAGE,
            "normals": NOTHING,
            "seen": NOTHING,
            "num_particles": count_from(2),
            "most_particles": count_from(2),
        },
        "atlas.witness:_tempered",
        normals=lambda world: world.exploration.normals,
        seen=lambda world: world.judgement,
    ),
}

DOORS = MAKERS | TARGETS | STAGES
