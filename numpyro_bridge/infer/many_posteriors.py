"""ManyPosteriors: the posteriors of one model given many data sets."""

from dataclasses import dataclass
from typing import Any

import jax

from numpyro_bridge._core.checks import check_count
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.many_draws import ManyDraws
from numpyro_bridge.draws.per_data_set import PerDataSet
from numpyro_bridge.infer.posterior import Posterior


@dataclass(frozen=True, eq=False, repr=False)
class ManyPosteriors(PerDataSet[Posterior[Any]]):
    """The posteriors of one model given many data sets, in the order of the data sets.

    What `BridgeSampler.run_many` returns. `many[number]` is a `Posterior` like any other. The error
    of a data set that could not be sampled stands in its place, and `many[number]` raises it.

    >>> nb.infer.ManyPosteriors((posterior, posterior))
    ManyPosteriors(2 data sets)

    Attributes:
        results: For each data set its posterior, or the error of its run.
    """

    _kind = Posterior

    def __repr__(self) -> str:
        failed = f", {len(self.errors)} without a posterior" if self.errors else ""
        return f"ManyPosteriors({len(self)} data sets{failed})"

    def sample(self, rng_key: RNGKey, num_samples: int = 4_000) -> ManyDraws:
        """Draw from every posterior.

        Data set `number` gets the draws of
        `many[number].sample(jax.random.fold_in(rng_key, number), num_samples)`.

        Args:
            rng_key: The same key gives the same draws.
            num_samples: Number of independent draws from each posterior.

        Raises:
            ValueError: if `num_samples` is below 1.

        Warns:
            ReliabilityWarning: if there are data sets whose draws are not to be trusted.
        """
        check_door("ManyPosteriors.sample", rng_key)
        num_samples = check_count("num_samples", num_samples, 1)
        drawn: list[Draws | Exception] = []
        for number, result in enumerate(self.results):
            if isinstance(result, Posterior):
                result = result.sample(jax.random.fold_in(rng_key, number), num_samples)
            drawn.append(result)
        draws = ManyDraws(tuple(drawn))
        draws.warn_if_unreliable(stacklevel=3)
        return draws
