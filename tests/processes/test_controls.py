"""Controls and schedules: zero at first, different at every time, and of bounded length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.layers import Linear, time_features
from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.controls import ScoreInformedControl
from numpyro_bridge.target.clipped import clipped_score
from tests import catalogue

pytestmark = pytest.mark.fast


every_control = pytest.mark.parametrize("make", catalogue.CONTROLS.values(), ids=catalogue.CONTROLS)


@every_control
def test_an_untrained_control_is_zero(make):
    control = make(jax.random.key(0), 3)
    value = control(jnp.asarray(0.3), jnp.ones(3), 5 * jnp.ones(3))
    np.testing.assert_array_equal(value, np.zeros(3))


@every_control
def test_a_control_sees_time_position_and_score(make):
    control = catalogue.perturbed(jax.random.key(1), make(jax.random.key(0), 3))
    inputs = (jnp.asarray(0.3), jnp.ones(3), jnp.ones(3))
    jacobian = jax.jit(jax.jacobian(lambda *inputs: control(*inputs), argnums=(0, 1, 2)))
    for derivative in jacobian(*inputs):
        assert float(jnp.max(jnp.abs(derivative))) > 1e-3


def test_a_control_learns_from_zero():
    """Zero output layers hold back the hidden ones for one step, not the output layers."""
    control = ScoreInformedControl(jax.random.key(0), 3, width=8)
    inputs = (jnp.asarray(0.3), jnp.ones(3), jnp.ones(3))
    gradient = jax.jit(jax.grad(lambda c: jnp.sum(c(*inputs))))(control)
    for layer in (gradient.output_layer, gradient.gate_layer):
        assert float(jnp.max(jnp.abs(layer.weight))) > 0


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (4, 3)])
def test_width_and_depth_are_those_asked_for(width, depth):
    control = ScoreInformedControl(jax.random.key(0), 3, width=width, depth=depth)
    assert control.input_layer.weight.shape == (6, width)
    assert len(control.hidden_layers) == depth - 1
    assert control.output_layer.weight.shape == (width, 3)


def test_no_two_steps_share_their_time_features():
    features = jax.vmap(lambda t: time_features(t, 16))(jnp.linspace(0, 1, 129))
    assert features.shape == (129, 16)
    distances = jnp.linalg.norm(features[:, None] - features[None], axis=-1)
    assert float(jnp.min(distances + 10 * jnp.eye(129))) > 0.1


def test_linear_keeps_the_scale_of_its_inputs():
    layer = Linear(jax.random.key(0), 1_000, 2_000)
    inputs = jax.random.normal(jax.random.key(1), (1_000,))
    np.testing.assert_allclose(jnp.std(layer(inputs)), jnp.std(inputs), rtol=0.1)


@pytest.mark.parametrize("length", [0.0, 1e-200, 0.5, 9.0, 1e3, 1e150])
def test_a_clipped_score_keeps_its_direction_and_is_never_too_long(length):
    direction = jnp.asarray([1.0, -1.0, 1.0, 1.0])
    clipped = clipped_score(length * direction, bound=10.0)
    np.testing.assert_allclose(clipped, min(length, 10.0) * direction, rtol=1e-12)


def test_a_clipped_score_has_finite_derivatives_everywhere():
    for score in (jnp.zeros(4), jnp.full(4, 10.0), jnp.full(4, 1e5)):
        jacobian = jax.jacobian(lambda s: clipped_score(s, bound=10.0))(score)
        assert np.all(np.isfinite(jacobian))


def test_annealing_starts_linear_and_stays_increasing():
    schedule = AnnealingSchedule(5)
    np.testing.assert_allclose(schedule(), np.linspace(0, 1, 6), atol=1e-12)
    trained = catalogue.perturbed(jax.random.key(0), schedule, size=3.0)()
    assert trained[0] == 0.0 and abs(trained[-1] - 1.0) < 1e-12
    assert np.all(np.diff(trained) > 0)


# --- what a sampler is given as `control=` --------------------------------------------------------

PROCESSES = nb.processes

NO_MAKERS = {
    "a control": (
        lambda: PROCESSES.ScoreInformedControl(jax.random.key(0), 2),
        "class or a function, not a control that is made already",
    ),
    "nothing": (lambda: None, r"makes a control from \(rng_key, dim\)"),
    "a function of a key": (lambda: lambda rng_key: None, "too many positional arguments"),
    "a function to an array": (
        lambda: lambda rng_key, dim, num_inputs=None: jnp.zeros(dim),
        "what control makes must be an instance such as those of",
    ),
}
"""What cannot make a control, and a part of the message that says what to write."""


@pytest.mark.parametrize("name", NO_MAKERS)
@pytest.mark.parametrize("sampler", [nb.CMCD, nb.DBS, nb.PIS, nb.UnderdampedDIS])
def test_what_makes_no_control_is_refused_by_every_sampler(name, sampler, as_users):
    make, message = NO_MAKERS[name]
    if sampler is nb.UnderdampedDIS:
        message = message.replace(r"dim\)", r"dim, num_inputs=").replace("too many", ".*")
    with pytest.raises(ValueError, match=message):
        sampler(jax.random.key(0), 2, num_steps=2, control=make())


def test_an_underdamped_sampler_asks_for_controls_that_see_the_momentum(as_users):

    def blind(rng_key, dim):
        return PROCESSES.ScoreInformedControl(rng_key, dim)

    with pytest.raises(ValueError, match=r"\(rng_key, dim, num_inputs=...\).*num_inputs"):
        nb.UnderdampedCMCD(jax.random.key(0), 2, num_steps=2, control=blind)


@pytest.mark.parametrize("num", [np.int64(3), np.int32(3)])
def test_numbers_of_steps_of_numpy_become_integers(num, as_users):
    process = nb.AnnealedLangevin(jax.random.key(0), 2, num_steps=num)
    assert type(process.num_steps) is int and process.num_steps == 3
