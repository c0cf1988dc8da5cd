"""Compare models of the same data: evidences, Bayes factors, and posterior probabilities."""

import warnings as python_warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.checks import (
    check_count,
    check_key,
    check_mapping,
    check_names,
    check_positive,
)
from numpyro_bridge._core.doors import check_here
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.verdict import MAX_PARETO_K, ReliabilityWarning
from numpyro_bridge.infer.posterior import Posterior

MAX_ERROR = 0.5
"""A log Bayes factor with a larger error than this, in nats, is said to decide little."""


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison:
    """The result of `compare_models`; print it, or read its parts.

    >>> comparison = nb.compare_models({"slope": draws, "no slope": flat})
    >>> comparison.best
    'no slope'

    Attributes:
        names: names of the models.
        log_evidence: log evidences in nats, shape (num_models,); NaN where the prior is improper.
        log_evidence_error: Monte Carlo standard errors of the log evidences, in nats.
        probability: posterior probabilities of the models, among those that have an evidence.
        probability_error: standard errors of the probabilities, from those of the evidences.
        prior: prior probabilities of the models.
        warnings: sentences about figures that may be wrong by more than their errors.
        draws: the draws of each model, by name.
    """

    names: tuple[str, ...]
    log_evidence: Float[np.ndarray, " num_models"]
    log_evidence_error: Float[np.ndarray, " num_models"]
    probability: Float[np.ndarray, " num_models"]
    probability_error: Float[np.ndarray, " num_models"]
    prior: Float[np.ndarray, " num_models"]
    warnings: tuple[str, ...]
    draws: dict[str, Draws]

    def log_bayes_factor(self, name: str, other: str) -> tuple[float, float]:
        """Log Bayes factor of one model against another, and its standard error, in nats.

        It is positive if the data favour `name`, and does not depend on the models' priors.

        Raises:
            ValueError: if a name is not one of the models.
        """
        first, second = self._index("name", name), self._index("other", other)
        error = np.hypot(self.log_evidence_error[first], self.log_evidence_error[second])
        return float(self.log_evidence[first] - self.log_evidence[second]), float(error)

    def _index(self, argument: str, name: Any) -> int:
        if not isinstance(name, str) or name not in self.names:
            raise ValueError(
                f"{argument}: there is no model {name!r}; the models are {list(self.names)}"
            )
        return self.names.index(name)

    @property
    def best(self) -> str:
        """The model of highest posterior probability."""
        return self.names[int(np.nanargmax(self.probability))]

    @property
    def table(self) -> Any:
        """A pandas data frame with a row for each model, the most probable first.

        The columns are `log_evidence` and `log_evidence_error`; `log_bayes_factor` of the most
        probable model against this one, with `log_bayes_factor_error`; `prior`, `probability` and
        `probability_error`; `pareto_k` and `ess` of the weights.
        """
        import pandas

        factors = [self.log_bayes_factor(self.best, name) for name in self.names]
        columns = {
            "log_evidence": self.log_evidence,
            "log_evidence_error": self.log_evidence_error,
            "log_bayes_factor": [factor for factor, _ in factors],
            "log_bayes_factor_error": [
                0.0 if name == self.best else error
                for name, (_, error) in zip(self.names, factors, strict=True)
            ],
            "prior": self.prior,
            "probability": self.probability,
            "probability_error": self.probability_error,
            "pareto_k": [self.draws[name].pareto_k for name in self.names],
            "ess": [self.draws[name].ess for name in self.names],
        }
        table = pandas.DataFrame(columns, index=list(self.names))
        return table.sort_values("probability", ascending=False, na_position="last")

    def __repr__(self) -> str:
        """Name the models."""
        return f"ModelComparison({', '.join(self.names)})"

    def __str__(self) -> str:
        """The table and the warnings."""
        width = max(5, *map(len, self.names))
        head = f"{'model':<{width}}  {'log evidence':>18}  {'log Bayes factor':>18}  probability"
        lines = [head]
        for name, row in self.table.iterrows():
            if np.isnan(row.log_evidence):
                lines.append(f"{name:<{width}}  {'not defined':>18}")
                continue
            evidence = f"{row.log_evidence:.3f} ± {row.log_evidence_error:.3f}"
            factor = f"{row.log_bayes_factor:.3f} ± {row.log_bayes_factor_error:.3f}"
            factor = "-" if name == self.best else factor
            share = f"{row.probability:.3f} ± {row.probability_error:.3f}"
            lines.append(f"{name:<{width}}  {evidence:>18}  {factor:>18}  {share}")
        lines.append(f"Bayes factors are those of {self.best} against each model, in nats.")
        return "\n".join([*lines, *self.warnings])

    def print(self) -> None:
        """Print the table and the warnings."""
        print(f"\n{self}\n")


def compare_models(
    models: Mapping[str, Posterior[Any] | Draws],
    *,
    prior: Mapping[str, float] | None = None,
    num_samples: int = 4_000,
    rng_key: RNGKey | None = None,
) -> ModelComparison:
    r"""Compare models of the same data by their evidences.

    >>> comparison = nb.compare_models({"slope": draws, "no slope": flat})
    >>> comparison.probability.round(1).tolist()
    [0.5, 0.5]

    With evidences $Z_i$ and prior probabilities $\pi_i$, the posterior probabilities are
    $p_i = \pi_i Z_i / \sum_j \pi_j Z_j$. Their errors follow from those of the log evidences
    $s_i$, which are independent:

    $$\mathrm{sd}(p_i)^2 = p_i^2\left[(1 - p_i)^2 s_i^2 + \sum_{j \neq i} p_j^2 s_j^2\right]$$

    An evidence depends on the priors of the parameters as much as on the data, however many data
    there are: vague priors are punished. Choose the priors before you compare.

    Args:
        models: trained posteriors, or draws from them, by the name of the model.
        prior: relative prior probabilities by name; equal if not given.
        num_samples: how many draws to make from each posterior.
        rng_key: a JAX key for these draws; `jax.random.key(0)` if not given.

    Raises:
        ValueError: if there are fewer than two models, or one of them is not a posterior, or none
            has an evidence, or `prior` does not give a positive number to each name, or the models
            observe different data.

    Warns:
        ReliabilityWarning: if an evidence is not to be trusted, because k-hat is above 0.7, a mode
            is lost, weights are not finite, or the prior is improper. The result has these
            warnings too.
    """
    check_here("compare_models", rng_key)
    _check_models(models)
    if prior is not None:
        check_mapping("prior", prior, str({name: 0.5 for name in models}))
    num_samples = check_count("num_samples", num_samples, 1)
    if rng_key is not None:
        check_key(rng_key)
    names = tuple(models)
    keys = jax.random.split(jax.random.key(0) if rng_key is None else rng_key, len(names))
    draws = {
        name: model if isinstance(model, Draws) else model.sample(key, num_samples)
        for (name, model), key in zip(models.items(), keys, strict=True)
    }
    _check_same_data(draws)
    comparison = _compared(draws, _log_prior(names, prior))
    for text in (text for name in names for text in _untrustworthy(name, draws[name])):
        python_warnings.warn(text, ReliabilityWarning, stacklevel=2)
    return comparison


def _check_models(models: Mapping[str, Any]) -> None:
    check_mapping("models", models, '{"linear": posterior_a, "quadratic": posterior_b}')
    if len(models) < 2:
        raise ValueError(
            f'models: give two models or more by name, such as {{"a": a, "b": b}}, got {[*models]}'
        )
    check_names("the names in models", list(models), '"linear" and "quadratic"')
    for name, model in models.items():
        if not isinstance(model, Posterior | Draws):
            raise ValueError(
                f"{name} should be a trained posterior or draws of one, got "
                f"{type(model).__name__}: nb.BridgeSampler(model).run(rng_key, ...) trains it"
            )


def _compared(draws: dict[str, Draws], log_prior: np.ndarray) -> ModelComparison:
    """The comparison of the evidences of draws, with its warnings."""
    log_evidence = np.asarray([each.log_evidence for each in draws.values()], np.float64)
    error = np.asarray([each.log_evidence_error for each in draws.values()], np.float64)
    if not np.isfinite(log_evidence).any():
        raise ValueError(
            "none of the models has an evidence: their priors are improper, or their weights are "
            "not finite. Give every parameter a proper prior"
        )
    probability, probability_error = _probabilities(log_evidence + log_prior, error)
    warnings = [*_unseen(draws)]
    warnings += [text for name in draws for text in _untrustworthy(name, draws[name])]
    warnings += [text for name in draws for text in _optimistic(name, draws[name])]
    warnings += _undecided(log_evidence + log_prior, error)
    return ModelComparison(
        tuple(draws),
        log_evidence,
        error,
        probability,
        probability_error,
        np.exp(log_prior),
        tuple(warnings),
        draws,
    )


def _log_prior(names: tuple[str, ...], prior: Mapping[str, float] | None) -> np.ndarray:
    if prior is None:
        return np.full(len(names), -np.log(len(names)))
    if set(prior) != set(names):
        raise ValueError(
            f"prior should give a positive number to each of {list(names)}, got {dict(prior)}"
        )
    weights = [check_positive(f"prior[{name!r}]", prior[name]) for name in names]
    return np.log(weights / np.sum(weights))


def _probabilities(
    log_mass: Float[np.ndarray, " num_models"], error: Float[np.ndarray, " num_models"]
) -> tuple[Float[np.ndarray, " num_models"], Float[np.ndarray, " num_models"]]:
    """Normalise masses, with errors to first order; NaN where a mass is not known."""
    known = np.isfinite(log_mass)
    mass = np.where(known, np.exp(log_mass - np.max(log_mass[known])), 0.0)
    share = mass / np.sum(mass)
    variance = np.where(known, (share * error) ** 2, 0.0)
    others = np.sum(variance) - variance
    spread = share * np.sqrt((1 - share) ** 2 * np.where(known, error, 0.0) ** 2 + others)
    return np.where(known, share, np.nan), np.where(known, spread, np.nan)


def _untrustworthy(name: str, draws: Draws):
    """Say why the evidence of a model is not to be trusted, or not there."""
    if not draws.target.has_evidence:
        sites = ", ".join(draws.target.improper_sites)
        yield (
            f"{name}: there is no evidence, since the prior of {sites} is improper; the model is "
            "left out. Give it a proper prior."
        )
    elif draws.weights_are_useless:
        yield (
            f"{name}: the evidence, and the probabilities with it, may be wrong by more than their "
            f"errors (k-hat {draws.pareto_k:.2f}, above {MAX_PARETO_K}). Take more draws "
            "(num_samples), have a bridge trained (process=nb.CMCD), or train it longer."
        )
    for text in (*draws.warnings, *draws.target.doubts):
        yield f"{name}: {text}"


def _optimistic(name: str, draws: Draws):
    doubtful = draws.tail_is_doubtful and not draws.weights_are_useless
    if doubtful and draws.target.has_evidence:
        yield (
            f"{name}: the error of the evidence is optimistic (k-hat {draws.pareto_k:.2f} of a "
            f"tail that may carry {draws.tail_share:.0%})."
        )


def _undecided(log_mass: np.ndarray, error: np.ndarray):
    """Say so if noise could have made another model the best."""
    order = np.argsort(-np.where(np.isfinite(log_mass), log_mass, -np.inf))
    first, second = order[:2]
    if not np.isfinite(log_mass[second]):
        return
    noise = np.hypot(error[first], error[second])
    if noise > MAX_ERROR:
        yield (
            f"The two best models are {log_mass[first] - log_mass[second]:.2f} ± {noise:.2f} nats "
            "apart, which decides little: draw more."
        )


def _check_same_data(draws: Mapping[str, Draws]) -> None:
    """Raise a ValueError if models are known to observe different data, or one has none."""
    data = {name: each.target.observed for name, each in draws.items() if each.target.observed}
    if not data:
        return
    empty = [name for name, each in draws.items() if not each.target.may_observe_data]
    first, *others = data
    if empty:
        raise ValueError(
            f"{empty[0]} observes no data, and {first} does: the evidence of a model without data "
            "is one, and cannot be compared. Pass the data (was None passed to the model?)"
        )
    for other in others:
        if not _same(data[first], data[other]):
            a, b = (sum(value.size for value in data[name].values()) for name in (first, other))
            raise ValueError(
                f"{first} and {other} observe different data, {a} and {b} numbers: "
                "their evidences cannot be compared. Give both the same observations, on the "
                "same scale and in the same order"
            )


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether data are the same ones: site by site, or in any order if their sites differ."""
    shapes = [{name: value.shape for name, value in data.items()} for data in (one, other)]
    if shapes[0] == shapes[1]:
        pairs = [(one[name], other[name]) for name in one]
    else:
        pairs = [tuple(_sorted(data) for data in (one, other))]
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=True)
        for a, b in pairs
    )


def _sorted(data: Mapping[str, Any]) -> np.ndarray:
    return np.sort(np.concatenate([np.ravel(value) for value in data.values()]))


def _unseen(draws: Mapping[str, Draws]):
    """Name the models whose data the comparison cannot see, where it sees those of others."""
    seen = [name for name, each in draws.items() if each.target.observed]
    for name in draws:
        if seen and name not in seen:
            yield (
                f"{name}: it has no observed site, so that nobody has checked that its data, in a "
                f"factor or a log density, are those of {seen[0]}."
            )
