"""Classes of NumPyro and optax that this package derives from, as type checkers should see them.

Neither library marks its types as complete (there is no `py.typed`), so that a class derived from
one of theirs would have an unknown type, and so would all that returns one. A type checker
therefore sees these bases as classes whose attributes may be anything. When the program runs they
are the classes themselves.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class _Untyped:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    class AutoContinuous(_Untyped):
        """A guide over one unconstrained vector."""

        def _setup_prototype(self, *args: Any, **kwargs: Any) -> None: ...

    class Distribution(_Untyped):
        """A distribution."""

    class ELBO(_Untyped):
        """A loss of `SVI`."""

    class GradientTransformationExtraArgs(_Untyped):
        """An optimiser of optax."""

    class MCMCKernel(_Untyped):
        """A kernel of `MCMC`."""

    class Messenger(_Untyped):
        """An effect handler."""

        def __enter__(self) -> Any: ...

        def __exit__(self, *error: Any) -> None: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    class Transform(_Untyped):
        """A bijective transform."""

else:
    from numpyro.distributions import Distribution
    from numpyro.distributions.transforms import Transform
    from numpyro.infer import ELBO
    from numpyro.infer.autoguide import AutoContinuous
    from numpyro.infer.mcmc import MCMCKernel
    from numpyro.primitives import Messenger
    from optax import GradientTransformationExtraArgs

__all__ = [
    "ELBO",
    "AutoContinuous",
    "Distribution",
    "GradientTransformationExtraArgs",
    "MCMCKernel",
    "Messenger",
    "Transform",
]
