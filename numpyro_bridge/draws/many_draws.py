"""ManyDraws: draws of many posteriors, and what is thought of each."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import shorten

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.checks import check_count, check_key
from numpyro_bridge._core.doors import check_unforked
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.html import coloured, html_table
from numpyro_bridge.draws.per_data_set import PerDataSet
from numpyro_bridge.draws.verdict import ReliabilityWarning, Verdict

MOST_LINES = 20
"""Data sets that a notebook shows; those in trouble come first."""

MOST_LETTERS = 120
"""Letters of an error that the table shows; `errors` has the whole text."""

COLUMNS = ("log evidence", "ESS", "k-hat", "verdict")


@dataclass(frozen=True, eq=False, repr=False)
class ManyDraws(PerDataSet[Draws]):
    """Draws of many posteriors, one for each data set, in the order of the data sets.

    An error of one data set stands in the place of its draws, and all others are there. Arrays
    over data sets have NaN at its place, and `many[number]` raises it.

    >>> many = nb.draws.ManyDraws((draws, draws))
    >>> many.trusted
    array([ True,  True])
    >>> many.log_evidence.shape
    (2,)

    Attributes:
        results: For each data set its draws, or the error of its run.
    """

    _kind = Draws

    def __repr__(self) -> str:
        failed = f", {len(self.errors)} without draws" if self.errors else ""
        return f"ManyDraws({len(self)} data sets, {int(self.trusted.sum())} trusted{failed})"

    @property
    def log_evidence(self) -> Float[np.ndarray, " data_sets"]:
        """The log evidence of each data set, in nats; NaN without draws or with improper priors."""
        return self._numbers(lambda draws: draws.log_evidence)

    @property
    def log_evidence_error(self) -> Float[np.ndarray, " data_sets"]:
        """The standard error of each log evidence, in nats."""
        return self._numbers(lambda draws: draws.log_evidence_error)

    @property
    def ess(self) -> Float[np.ndarray, " data_sets"]:
        """The effective sample size of each data set, as a share of its draws."""
        return self._numbers(lambda draws: draws.ess)

    @property
    def pareto_k(self) -> Float[np.ndarray, " data_sets"]:
        """The k-hat of each data set."""
        return self._numbers(lambda draws: draws.pareto_k)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What is thought of the draws of each data set, in words."""
        return tuple(map(_verdict, self.results))

    @property
    def trusted(self) -> Bool[np.ndarray, " data_sets"]:
        """Whether the draws of each data set can be trusted; not so where there are none."""
        return np.array([verdict.trustworthy for verdict in self.verdicts], bool)

    @property
    def sites(self) -> dict[str, Array]:
        """Values of each site before the correction, shape (data_sets, num_samples, ...).

        Raises:
            ValueError: if a data set has no draws, or sites differ in shape between data sets.
        """
        return _stacked([draws.sites for draws in self._all()])

    @property
    def log_weight(self) -> Float[Array, "data_sets num_samples"]:
        """The log weights of the draws, in nats.

        Raises:
            ValueError: if a data set has no draws.
        """
        return jax.numpy.stack([draws.log_weight for draws in self._all()])

    def resample(self, rng_key: RNGKey, num_samples: int) -> dict[str, Array]:
        """Equally weighted posterior draws of every data set.

        Args:
            rng_key: A JAX key.
            num_samples: Draws for each data set.

        Returns:
            Site name to values, shape (data_sets, num_samples, ...).

        Raises:
            ValueError: if a data set has no draws, a weight is NaN or infinite, or sites differ in
                shape between data sets.
        """
        check_unforked("ManyDraws.resample")
        check_key(rng_key)
        num_samples = check_count("num_samples", num_samples, 1)
        return _stacked(
            [
                draws.resample(jax.random.fold_in(rng_key, number), num_samples)
                for number, draws in enumerate(self._all())
            ]
        )

    def warn_if_unreliable(self, stacklevel: int = 2) -> None:
        """Issue one `ReliabilityWarning` that names the data sets that are not to be trusted.

        Args:
            stacklevel: Which caller's line the warning names, as in `warnings.warn`.
        """
        stacklevel = check_count("stacklevel", stacklevel, 1)
        doubted = np.flatnonzero(~self.trusted)
        if doubted.size:
            numbers = ", ".join(map(str, doubted[:10])) + (", …" if doubted.size > 10 else "")
            warnings.warn(
                f"{doubted.size} of the {len(self)} data sets have no draws that can be trusted "
                f"(numbers {numbers}): print_summary() says why",
                ReliabilityWarning,
                stacklevel=stacklevel,
            )

    def print_summary(self) -> None:
        """Print a line for each data set: evidence, ESS, k-hat and verdict."""
        rows = [_row(result) for result in self.results]
        width = max([len(COLUMNS[0]), *(len(row[0]) for row in rows)])
        print(f"{'':>8} {COLUMNS[0]:>{width}} {'ESS':>6} {'k-hat':>6}  verdict")
        for number, (evidence, ess, pareto_k, verdict) in enumerate(rows):
            print(f"{number:>8} {evidence:>{width}} {ess:>6} {pareto_k:>6}  {verdict}")

    def _repr_html_(self) -> str:
        """What a notebook shows: how many are trusted, and a table that begins with the others."""
        num, trusted = len(self), int(self.trusted.sum())
        order = np.argsort(self.trusted, kind="stable")[:MOST_LINES]
        rows = [(str(number), *_row(self.results[number])) for number in order]
        text = coloured(f"{trusted} of them are trusted.", trusted == num)
        rest = num - len(rows)
        more = f"<p>and {rest:,} more: <code>print_summary()</code></p>" if rest else ""
        return f"<p><b>{num:,} data sets.</b> {text}</p>{html_table(('', *COLUMNS), rows)}{more}"

    def _numbers(self, number_of: Callable[[Draws], float]) -> Float[np.ndarray, " data_sets"]:
        return np.array(
            [number_of(r) if isinstance(r, Draws) else np.nan for r in self.results], float
        )

    def _all(self) -> Iterator[Draws]:
        """The draws of all data sets, or an error that names those without."""
        if self.errors:
            raise ValueError(
                f"data sets {sorted(self.errors)} have no draws, for the reasons in errors: leave "
                "them out by finished, as in draws.finished.resample(rng_key, 1_000)"
            )
        return iter(self)


def _stacked(sites: list[dict[str, Array]]) -> dict[str, Array]:
    if not sites:
        return {}
    shapes = [{name: value.shape for name, value in each.items()} for each in sites]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"sites of data set {number} have the shapes {shape}, and those of the first "
                f"{shapes[0]}, so they do not fit into one array: read many[{number}]"
            )
    return jax.tree.map(lambda *values: jax.numpy.stack(values), *sites)


def _verdict(result: Draws | Exception) -> Verdict:
    if isinstance(result, Draws):
        return result.verdict
    return Verdict(False, f"No draws: {type(result).__name__}: {result}")


def _row(result: Draws | Exception) -> tuple[str, str, str, str]:
    verdict = _verdict(result)
    if isinstance(result, Exception):
        return "", "", "", shorten(verdict.text, MOST_LETTERS, placeholder=" …")
    evidence = "not defined"
    if result.target.has_evidence:
        evidence = f"{result.log_evidence:.3f} ± {result.log_evidence_error:.3f}"
    text = "trusted" if verdict.trustworthy else verdict.text
    return evidence, f"{result.ess:.3f}", f"{result.pareto_k:.2f}", text
