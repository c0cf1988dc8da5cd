"""Controls: the learned drifts, as functions of time, position and score."""

import abc
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import (
    MOST_LAYERS,
    MOST_STEPS,
    check_count,
    check_instance,
    check_key,
)
from numpyro_bridge._core.layers import Linear, time_features
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.processes.parts import AbstractPart

NUM_FEATURES = 16
"""Number of sines and cosines in which a control sees the time."""


class AbstractControl(AbstractPart):
    """A learned drift.

    >>> class Push(nb.processes.AbstractControl):
    ...     strength: jax.Array
    ...
    ...     def __init__(self, rng_key, dim):
    ...         self.strength = jnp.zeros(dim)
    ...
    ...     def __call__(self, time, inputs, score):
    ...         return self.strength * score
    >>> sampler = nb.BridgeSampler(model, process=partial(nb.CMCD, control=Push))

    Samplers make their controls by calling what is passed as `control=` with `(rng_key, dim)`;
    underdamped samplers add `num_inputs=`, since their controls see the momentum too. A control
    should be zero at first, so that training begins at the uncontrolled sampler.
    """

    @abc.abstractmethod
    def __call__(self, time: Scalar, inputs: Float[Array, " inputs"], score: Vector) -> Vector:
        """The drift at one state.

        Args:
            time: 0 at the initial distribution, 1 at the target.
            inputs: The position, shape `(dim,)`, followed by the momentum where there is one.
            score: Gradient of the target's log density at the position, of bounded length.
        """


class ScoreInformedControl(AbstractControl):
    r"""A drift that sees the score: a small network plus a time-dependent multiple of the score.

    >>> control = partial(nb.processes.ScoreInformedControl, width=32)
    >>> sampler = nb.BridgeSampler(model, process=partial(nb.CMCD, control=control))

    $$u(t, x) = \mathrm{MLP}(x, \nabla \log \gamma(x), t) + g(t) \odot \nabla \log \gamma(x)$$

    Both terms are zero at first. The layers that see time alone are evaluated once for all
    trajectories, and cost next to nothing.

    Args:
        rng_key: Randomness of the first weights.
        dim: Number of coordinates.
        width: Units of each hidden layer, at least 1.
        depth: Number of hidden layers, at least 0.
        num_inputs: Length of what it sees besides time and score; `dim`, for a position, if not
            given.

    Raises:
        ValueError: if `width` or `depth` is too small.

    Reference: the parametrisation of Zhang and Chen (2022), arXiv:2111.15141 (PIS-GRAD). Departs
    from it in feeding the score to the network as well as adding a multiple of it.
    """

    time_layer: Linear
    input_layer: Linear
    hidden_layers: tuple[Linear, ...]
    output_layer: Linear
    gate_layer: Linear

    def __init__(
        self,
        rng_key: RNGKey,
        dim: int,
        width: int = 64,
        depth: int = 2,
        num_inputs: int | None = None,
    ):
        check_key(rng_key)
        dim = check_count("dim", dim, 1, MOST_STEPS)
        width = check_count("width", width, 1, MOST_STEPS)
        depth = check_count("depth", depth, 0, MOST_LAYERS)
        num_inputs = dim if num_inputs is None else num_inputs
        num_inputs = check_count("num_inputs", num_inputs, 1, 2 * MOST_STEPS)
        keys = jax.random.split(rng_key, depth + 3)
        self.time_layer = Linear(keys[0], NUM_FEATURES, width)
        self.input_layer = Linear(keys[1], num_inputs + dim, width)
        self.hidden_layers = tuple(Linear(key, width, width) for key in keys[2 : depth + 1])
        self.output_layer = Linear(keys[-2], width, dim, gain=0.0)
        self.gate_layer = Linear(keys[-1], NUM_FEATURES, dim, gain=0.0)

    def __call__(self, time: Scalar, inputs: Float[Array, " inputs"], score: Vector) -> Vector:
        features = time_features(time, self.time_layer.weight.shape[0])
        seen = jnp.concatenate([inputs, score])
        hidden = jax.nn.silu(self.input_layer(seen) + self.time_layer(features))
        for layer in self.hidden_layers:
            hidden = jax.nn.silu(layer(hidden))
        return self.output_layer(hidden) + self.gate_layer(features) * score


MakesControl = Callable[..., AbstractControl]
"""What samplers take as `control=`, such as `partial(ScoreInformedControl, width=32)`."""


def make_control(
    control: MakesControl, rng_key: RNGKey, dim: int, **settings: int
) -> AbstractControl:
    """Call what a sampler was given as `control=`.

    Raises:
        ValueError: if it cannot be called so, or makes something that is no control.
    """
    such_as = "partial(nb.processes.ScoreInformedControl, width=32)"
    wanted = ", ".join(["rng_key", "dim", *(f"{name}=..." for name in settings)])
    try:
        inspect.signature(control).bind(rng_key, dim, **settings)
    except TypeError as error:
        raise ValueError(
            f"control makes a control from ({wanted}), such as {such_as}: it is a class or a "
            f"function, not a control that is made already ({error})"
        ) from None
    made = control(rng_key, dim, **settings)
    check_instance("what control makes", made, AbstractControl, f"those of {such_as}")
    return made
