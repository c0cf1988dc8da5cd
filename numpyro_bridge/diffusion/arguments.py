"""Checks of what losses, measurements and generation by a denoiser are given."""

from typing import Any

from numpyro_bridge._core.checks import check_array, check_instance, check_key
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.samples import Samples


def check_denoiser(denoiser: Any) -> None:
    """Raise a ValueError unless this is a denoiser."""
    such_as = "nb.diffusion.untrained_denoiser(rng_key, dim)"
    check_instance("denoiser", denoiser, Denoiser, such_as)


def check_learning(rng_key: Any, denoiser: Any, samples: Any) -> None:
    """Raise a ValueError unless these are a key, a denoiser and samples to learn from."""
    check_key(rng_key)
    check_denoiser(denoiser)
    check_instance("samples", samples, Samples, "nb.diffusion.Samples(position)")


def check_context(context: Any) -> None:
    """Raise a ValueError unless this is a vector to condition on, or None."""
    if context is not None:
        check_array("context", context, "(features,)")


def check_vector(name: str, value: Any) -> None:
    """Raise a ValueError unless this is one vector."""
    check_array(name, value, "(dim,)")
