"""Optimisers that can be pickled."""

from collections.abc import Callable
from typing import Any, cast

import optax

from numpyro_bridge._core.untyped_bases import GradientTransformationExtraArgs


class Remade(GradientTransformationExtraArgs):
    """An optax transformation that is pickled as the call that made it.

    Those of optax are local functions, which the pickle of the standard library refuses and
    cloudpickle, which joblib uses, accepts.
    """

    _make: Callable[[], Any]

    @classmethod
    def of(
        cls, optimizer: optax.GradientTransformation, make: Callable[[], Any]
    ) -> optax.GradientTransformation:
        """Wrap a transformation.

        Args:
            optimizer: The transformation.
            make: A function without arguments that makes it anew, and that can be pickled.
        """
        remade = cls(*optax.with_extra_args_support(optimizer))
        remade._make = make
        return cast(optax.GradientTransformation, remade)

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        """Make it anew out of a pickle."""
        return self._make, ()
