"""Data that lose what matters in 32 bits are named in the verdict."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge.target import target_from_model
from numpyro_bridge.target.rounding import rounded_arguments
from tests.target.models import UNTRAINED


def model(day, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 10.0))
    numpyro.sample("y", dist.Normal(level + day - 2_459_000.0, 0.2).to_event(1), obs=y)


NIGHT = 2_459_000.0 + np.linspace(0.1, 0.45, 7)


def seen(values):
    with jax.enable_x64(False):
        return rounded_arguments(model, (values,), {})


@pytest.mark.parametrize(
    "values, is_rounded",
    [
        (NIGHT, True),
        (2_459_000.0 + np.arange(3_000.0), False),  # years of dates
        (np.asarray([1.0, 1e300]), True),
        (np.asarray([0.1, 0.7, np.nan]), False),
        (np.asarray([1, 3_000_000_000]), True),
        (np.asarray([1, 2_000_000_000]), False),
        (np.full(3, 0.1), False),  # no spread, so nothing to lose
        (np.zeros(0), False),
        (np.asarray(["a", "b"]), False),
        (NIGHT.astype(np.float32), False),  # lost before it came here
    ],
)
def test_only_what_loses_something_is_named(values, is_rounded):
    assert seen(values) == (("day",) if is_rounded else ())
    assert rounded_arguments(model, (values,), {}) == ()  # 64 bits are enough for all of these


def test_arrays_in_containers_are_named_by_where_they_are():
    with jax.enable_x64(False):
        assert rounded_arguments(model, ({"early": NIGHT, "late": [NIGHT]},), {"y": NIGHT}) == (
            "day.early",
            "day.late.0",
            "y",
        )


def test_the_verdict_says_so(key):
    y = 3.0 + np.linspace(0.1, 0.45, 7)
    with jax.enable_x64(False):
        target = target_from_model(key, model, NIGHT, y=y)
        sampler = nb.BridgeSampler(model, **UNTRAINED)
        draws = sampler.run(key, NIGHT, y=y).sample(key, 12)
    assert target.odd_data.rounded == ("day",)
    assert not draws.verdict.trustworthy
    assert "numbers of day need more than 32 bits" in draws.verdict.text
    assert "numpyro.enable_x64()" in draws.verdict.text
    assert target_from_model(key, model, NIGHT, y=y).doubts == ()


def by_global(y=None):
    model(jnp.asarray(NIGHT), y)


def by_default(y=None, night=NIGHT):
    model(jnp.asarray(night), y)


def rounded_later(y=None):
    """NumPy subtracts in 64 bits, and what JAX rounds is small."""
    level = numpyro.sample("level", dist.Normal(0.0, 10.0))
    numpyro.sample("y", dist.Normal(level + (NIGHT - 2_459_000.0), 0.2).to_event(1), obs=y)


class ByAttribute:
    """A model that is an object with data."""

    def __init__(self):
        self.days = {"night": NIGHT}

    def __call__(self, y=None):
        model(jnp.asarray(self.days["night"]), y)


@pytest.mark.parametrize(
    "reader, names",
    [
        (by_global, ("NIGHT",)),
        (by_default, ("night",)),
        (ByAttribute(), ("night",)),
        (rounded_later, ()),
    ],
    ids=["global", "default", "attribute", "rounded later"],
)
def test_what_a_model_reads_by_itself_is_named_too(key, reader, names):
    y = 3.0 + np.linspace(0.1, 0.45, 7)
    with jax.enable_x64(False):
        assert target_from_model(key, reader, y=y).odd_data.rounded == names
    assert target_from_model(key, reader, y=y).odd_data.rounded == ()


def test_counts_that_become_negative_are_refused_with_the_reason(key):
    def counts(y):
        rate = numpyro.sample("rate", dist.Gamma(2.0))
        numpyro.sample("y", dist.Poisson(rate).expand([2]).to_event(1), obs=y)

    with jax.enable_x64(False), pytest.raises(ValueError, match=r"numbers of y need more than 32"):
        target_from_model(key, counts, np.array([3_000_000_000, 3_000_100_000]))
