"""`BridgeSampler`: settings that cannot work are refused with what to write instead."""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import numpyro_bridge as nb
from tests import targets
from tests.catalogue import narrow
from tests.infer.trained import TINY

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "instance": (
        {"process": nb.CMCD(jax.random.key(0), 2, num_steps=2, control=narrow(4))},
        r"pass the class or a partial.*partial\(nb.CMCD",
    ),
    "name": ({"process": "CMCD"}, "process must be a function or class such as nb.CMCD"),
    "keyword": (
        {"process": partial(partial(nb.CMCD, num_step=8), control=narrow(4))},
        "CMCD takes no argument 'num_step'; did you mean 'num_s",
    ),
    "steps inside": (
        {"process": nb.objectives.with_log_evidence(partial(nb.CMCD, num_steps=0))},
        "num_steps must be a whole number",
    ),
    "steps": ({"process": partial(nb.CMCD, num_steps=2.5)}, "num_steps must be a whole .*got 2.5"),
    "width": (
        {"process": partial(nb.CMCD, control=narrow(0))},
        "width must be a whole number >= 1",
    ),
    "initial": (
        {"process": partial(nb.CMCD, initial=nb.processes.InitialPrior)},
        r"initial must be an instance such as nb.processes.InitialPrior\(\), got InitialPrior",
    ),
    "integrator": (
        {"process": partial(nb.UnderdampedCMCD, integrator="OBABO")},
        r"integrator must be an instance such as nb.processes.OBABO\(\), got 'OBABO'",
    ),
    "no rng_key": ({"process": lambda dim: nb.CMCD(jax.random.key(0), dim)}, "too many positional"),
    "bound twice": (
        {"process": partial(nb.CMCD, dim=1)},
        "CMCD cannot be called with .rng_key, dim., too many positional arguments.*and no more",
    ),
    "makes": ({"process": lambda rng_key, dim: 3}, "makes 3, and not a process such as nb.CMCD"),
    "trainable": ({"trainable": 3}, "trainable must be a function of an array.*got 3"),
    "loss": ({"objective": "log_variance"}, "objective must be a function.*'log_variance'"),
    "factor": (
        {"objective": partial(nb.log_variance, factor=1.2)},
        "log_variance takes no argument 'factor'; It takes rng_",
    ),
    "sampling": (
        {"objective": partial(nb.reverse_kl_ld, sampling="widened")},
        "sampling must be a function or a number, got the string .widened",
    ),
    "batch": (
        {"objective": partial(nb.reverse_kl_ld, num_trajectories=32)},
        "write num_trajectories=32 beside objective",
    ),
    "parts": ({"objective": nb.mixed}, r"give it what it needs.*nb.mixed\(\(0.9"),
    "positions": (
        {"objective": nb.forward_kl_from_draws},
        r"too many positional arguments; give it what it needs, as in nb.forward_kl_from_draws",
    ),
    "standardise": ({"standardise": 1}, "standardise must be a function .*got 1"),
    "explore": ({"explore": None}, "explore must be a function .*got NoneType"),
    "charts": ({"charts": 3}, "charts must be a function .*got 3"),
    "iterations": ({"num_iterations": 0}, "num_iterations must be a whole number >= 1.*got 0"),
    "half": ({"num_iterations": 2.5}, "num_iterations must be a whole number >= 1.*got 2.5"),
    "one": ({"num_trajectories": 1}, "num_trajectories must be a whole number >= 2.*got 1"),
    "tolerance": ({"tolerance": -1}, "tolerance must be a number >= 0, such as 0.01, got -1"),
    "class": ({"curriculum": nb.ReplayBuffer}, r"such as nb.Tempering\(\) .*got ReplayBuffer"),
    "part": (
        {"objective": nb.reverse_kl, "curriculum": nb.ReplayBuffer(8, num_new=4)},
        r"reverse_kl cannot be called as a loss .*sampling\), got an unexpected .*'sampling'",
    ),
    "rate": ({"optimizer": 2e-3}, r"such as optax.adam\(0.002\) .*got 0.002"),
    "devices": ({"devices": "cpu"}, r"a list such as jax.devices\(\)"),
    "folder": ({"checkpoint": "."}, "checkpoint must be a file, and '.' is a folder"),
}
"""What cannot work, and a part of the message that says what to write instead."""


@pytest.mark.usefixtures("as_users")
@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_cannot_work_are_refused_with_what_to_write(name):
    settings, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        nb.BridgeSampler(targets.regression, **settings)


def test_a_process_may_be_wrapped():
    """What counts is what the wrapper takes, not what the function inside does."""

    def of_width(width, rng_key, dim):
        return nb.CMCD(rng_key, dim, control=narrow(width))

    @functools.wraps(of_width)
    def wrapped(rng_key, dim):
        return of_width(8, rng_key, dim)

    assert nb.BridgeSampler(targets.regression, process=wrapped).process is wrapped


@pytest.mark.usefixtures("as_users")
def test_what_is_no_model_or_no_key_is_refused():
    sampler: Any = nb.BridgeSampler
    with pytest.raises(
        ValueError, match="model must be a NumPyro model, which is a function, or a target"
    ):
        sampler(jnp.zeros(3))
    with pytest.raises(TypeError, match="learning_rate"):
        sampler(targets.regression, learning_rate=1e-3)
    with pytest.raises(ValueError, match="CMCD takes no argument 'num_step'"):
        nb.objectives.with_log_evidence(partial(nb.CMCD, num_step=8))
    with pytest.raises(ValueError, match="A log density is made a target by nb.target_from_log"):
        sampler(lambda x: -jnp.sum(x**2)).run(jax.random.key(0))
    for key, got in ((0, "got 0"), (jax.random.split(jax.random.key(0)), r"of shape \(2,\)")):
        with pytest.raises(ValueError, match=rf"one JAX key, such as jax.random.key\(0\).*{got}"):
            sampler(targets.regression).run(key)


def test_a_target_holds_its_data_already():
    sampler = nb.BridgeSampler(targets.skewed().target, **TINY)
    with pytest.raises(ValueError, match=r"call run\(rng_key\) without further arguments"):
        sampler.run(jax.random.key(0), jnp.ones(3))


def test_a_sampler_says_what_it_is():
    assert repr(nb.BridgeSampler(targets.regression, process=partial(nb.CMCD, num_steps=8))) == (
        "BridgeSampler(regression, process=CMCD(num_steps=8), objective=reverse_kl_ld)"
    )
    assert repr(nb.DiffusionSampler(targets.regression, num_steps=8)) == (
        "DiffusionSampler(regression, num_steps=8)"
    )
