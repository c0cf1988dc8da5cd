"""NUTS as the studies run it, for reference draws and to compare with."""

from collections.abc import Callable
from typing import Any

from numpyro.infer import MCMC, NUTS


def four_chains(
    model: Callable[..., Any], *, num_warmup: int = 1_000, num_samples: int = 1_000, **settings: Any
) -> MCMC:
    """Four vectorised chains of NUTS, ready to be run.

    Args:
        model: The NumPyro model.
        num_warmup: Iterations of warm-up, in each chain.
        num_samples: Draws of each chain.
        **settings: Settings of NUTS itself.
    """
    return MCMC(
        NUTS(model, **settings),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
