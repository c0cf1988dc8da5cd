"""ManyPosteriors: the posteriors of one model given many data sets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, overload

import jax

from numpyro_bridge._core.checks import check_count, check_instance, described
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.many_draws import ManyDraws
from numpyro_bridge.infer.posterior import Posterior


@dataclass(frozen=True, eq=False, repr=False)
class ManyPosteriors:
    """The posteriors of one model given many data sets, in the order of the data sets.

    What `BridgeSampler.run_many` returns. `many[number]` is a `Posterior` like any other. The error
    of a data set that could not be sampled stands in its place, and `many[number]` raises it.

    >>> nb.infer.ManyPosteriors((posterior, posterior))
    ManyPosteriors(2 data sets)

    Attributes:
        results: For each data set its posterior, or the error of its run.
    """

    results: tuple[Posterior[Any] | Exception, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.results, tuple):
            raise ValueError(f"results must be a tuple, got {described(self.results)}")
        for result in self.results:
            check_instance("results", result, (Posterior, Exception), "(posterior, posterior)")

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> Posterior[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "ManyPosteriors": ...
    def __getitem__(self, index: int | slice) -> "Posterior[Any] | ManyPosteriors":
        if isinstance(index, slice):
            return ManyPosteriors(self.results[index])
        result = self.results[index]
        if isinstance(result, Exception):
            raise result
        return result

    def __iter__(self) -> Iterator[Posterior[Any]]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        failed = f", {len(self.errors)} without a posterior" if self.errors else ""
        return f"ManyPosteriors({len(self)} data sets{failed})"

    @property
    def errors(self) -> dict[int, Exception]:
        """The data sets without a posterior, by their numbers, and why."""
        return {n: r for n, r in enumerate(self.results) if isinstance(r, Exception)}

    @property
    def finished(self) -> "ManyPosteriors":
        """The data sets that have a posterior; where there are `errors`, they are numbered anew."""
        return ManyPosteriors(tuple(r for r in self.results if isinstance(r, Posterior)))

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
