"""The faults that tests inject, as tables, so that they can be counted.

    from tests import faults
    len(faults.INJECTED), len(faults.KILLS)

Each entry is a parameter of a test: what is listed here is injected, and survived.
"""

import jax
import jax.numpy as jnp
import optax

INTERRUPTS = {
    "reading the model": "raised",
    "exploring": "raised",
    "charting": "raised",
    "choosing the annealed moves": "returned",
    "compiling the training": "returned",
    "looking for what the sampler does not cover": "returned",
    "drawing": "raised",
}
"""Ctrl-C at each stage of `BridgeSampler.run` and of drawing, and what comes of it."""

LOST_INTERRUPTS = ("garbage collector", "weak reference")
"""Callbacks in which Python forgets Ctrl-C, so that it has to be remembered."""

INTERRUPTED_DOORS = (
    "fit",
    "BridgeSampler with a named process",
    "DiffusionSampler on charts",
    "DiffusionSampler in rounds",
    "DiffusionSampler.amortise",
    "BridgeKernel",
)
"""Doors in whose training Ctrl-C is pressed."""


def sgd_until(num_updates: int, broken: float) -> optax.GradientTransformation:
    """Gradient descent whose rate is broken after so many updates."""
    return optax.sgd(lambda count: jnp.where(count < num_updates, 0.05, broken))


BROKEN_OPTIMIZERS = {
    "a rate that is not a number": (optax.sgd(float("nan")), 0),
    "an infinite rate": (optax.sgd(float("inf")), 0),
    "a rate that overflows": (optax.sgd(1e308), 0),
    "a rate that becomes not a number": (sgd_until(40, float("nan")), 40),
    "a rate that becomes infinite": (sgd_until(40, float("inf")), 40),
    "an update that is not a number": (optax.stateless(lambda u, _: _spoilt(u)), 0),
}
"""Optimisers with updates that are not finite, and how many are before the first of these."""


def _spoilt(updates):
    return jax.tree.map(lambda update: update * float("nan"), updates)


BROKEN_DOORS = ("fit", "BridgeSampler", "coupling map", "SVI")
"""Where updates are broken; other doors lead to `fit`. Those of SVI are the user's: what they have
spoilt is refused."""

TRACED = ("jit", "jit of what is known", "vmap")
"""Where every call that decides by numbers is refused at once."""

DOORS = {
    "BridgeSampler.run": (*TRACED, "grad"),
    "DiffusionSampler.run": (*TRACED, "grad"),
    "DiffusionSampler.amortise": (*TRACED, "grad"),
    "AmortisedPosterior.condition": (*TRACED, "grad"),
    "Posterior.sample": TRACED,
    "Posterior.predictive": (*TRACED, "grad"),
    "Posterior.run_backward": (*TRACED, "grad"),
    "to_inference_data": TRACED,
    "compare_models": TRACED,
    "compare_with_nuts": TRACED,
}
"""Calls that are refused there, those of data in a gradient too, and all of them in a process that
was forked after JAX had started."""

KILLS = (
    "before the first checkpoint",
    "between two chunks",
    "inside a chunk",
    "while a checkpoint is written",
)
"""Moments at which a training is killed (SIGKILL), and from which it is resumed exactly."""

INJECTED = (
    *(f"Ctrl-C at {name}" for name in INTERRUPTS),
    *(f"Ctrl-C in a callback of the {name}" for name in LOST_INTERRUPTS),
    *(f"Ctrl-C in the training of {name}" for name in INTERRUPTED_DOORS),
    *(f"{name}, in fit" for name in BROKEN_OPTIMIZERS),
    *(f"a broken optimiser, in {name}" for name in BROKEN_DOORS[1:]),
    *(f"{call} inside {where}" for call, places in DOORS.items() for where in places),
    *(f"{call} after a fork" for call in DOORS),
)
"""All faults but the kills."""
