"""Runs of any sampler on simulated data, each of which ranks the values that made the data."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.diagnostics import effective_sample_size

from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.draws.calibration import Calibration, calibration_of
from numpyro_bridge.draws.corrections import Correction
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.given import positions_and_weights
from numpyro_bridge.draws.ranking import RankedRun, below_truth, by_site, rank
from numpyro_bridge.draws.verdict import ReliabilityWarning
from numpyro_bridge.infer.amortise import AmortisedPosterior
from numpyro_bridge.target import ModelTarget, target_from_model
from numpyro_bridge.target.data_arguments import Call
from numpyro_bridge.target.simulation import (
    Data,
    Simulations,
    finite_simulations,
    target_of_data,
    with_data,
)


class Ranking(NamedTuple):
    """How draws are made and ranked."""

    num_samples: int = 4_000
    """Draws that a posterior is asked for."""
    num_draws: int = 99
    """Draws that ranks are among."""
    correction: Correction = "metropolis"


@dataclass(frozen=True, eq=False)
class SimulatedRuns:
    """Simulations of a model, and a sampler to be run on each; made by `simulated_runs`.

    Attributes:
        sampler: What is calibrated.
        call: The call of the model, and which of its arguments are data.
        target: The target whose data can be exchanged.
        truths: The simulations, one a row.
        num_replaced: Simulations that were left out since they were not finite.
        rng_key: The key of the runs.
        ranking: How draws are made and ranked.
    """

    sampler: Any
    call: Call
    target: ModelTarget
    truths: Simulations
    num_replaced: int
    rng_key: RNGKey
    ranking: Ranking

    def run(self, number: int) -> RankedRun:
        """Run the sampler on one simulation, and rank its true values.

        An error of the sampler is kept in the result; its draws, where there are some, must fit the
        model.

        Args:
            number: Which simulation. The result does not depend on what was run before.

        Raises:
            ValueError: if the sampler gives fewer draws than are ranked, or draws without a latent
                site of the model.
        """
        truth = jax.tree.map(lambda rows: jnp.asarray(rows[number]), self.truths)
        args, kwargs = self.call.with_data(truth.data)
        draw_key, rank_key = jax.random.split(jax.random.fold_in(self.rng_key, number))
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ReliabilityWarning)
                draws = draws_of(self.sampler, draw_key, self.ranking.num_samples, args, kwargs)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}".splitlines()[0]
            took = time.perf_counter() - start
            return RankedRun(failure=failure, error=error, seconds=took)
        said = _warn_again(caught)
        return self._ranked(rank_key, truth, draws, said)._replace(
            seconds=time.perf_counter() - start
        )

    def calibration(self, runs: Sequence[RankedRun]) -> Calibration:
        """Collect runs on several simulations."""
        weighted = any(run.weighted for run in runs if run.ranks is not None)
        return calibration_of(
            runs,
            self.ranking.num_draws,
            self.ranking.correction if weighted else None,
            judged=weighted,
            num_replaced=self.num_replaced,
        )

    def _ranked(self, rng_key: RNGKey, truth: Simulations, draws: Any, said: str) -> RankedRun:
        compare_key, rank_key = jax.random.split(rng_key)
        values = _values(self.target, draws)
        position, log_density, below = map(
            np.asarray, _compared(compare_key, self.target, truth.data, truth.position, values)
        )
        num, num_nan = len(position), int(np.sum(np.any(np.isnan(position), axis=1)))
        if num < self.ranking.num_draws:
            raise ValueError(
                f"the sampler gave {num} draws, and ranks are to be among "
                f"{self.ranking.num_draws}: let it make more, or pass a smaller num_draws"
            )
        if num_nan:
            return RankedRun(failure=f"{num_nan} of {num} draws are not numbers")
        weighted = isinstance(draws, Draws)
        correction = self.ranking.correction if weighted else None
        log_weight = draws.log_weight if weighted else np.zeros(num)
        try:
            ranks = rank(rank_key, below, log_weight, self.ranking.num_draws, correction)
        except ValueError as error:  # weights that cannot rank the draws
            return RankedRun(failure=str(error))
        num_effective = _num_effective(draws, position, log_density)
        return RankedRun(
            ranks=by_site(self.target, ranks),
            ess=num_effective / num,
            num_effective=num if weighted and correction is None else num_effective,
            doubt=_doubt(draws) or said,
            weighted=weighted,
        )


def simulated_runs(
    rng_key: RNGKey, sampler: Any, call: Call, num_simulations: int, ranking: Ranking
) -> SimulatedRuns:
    """Simulate parameters and data, on which a sampler can then be run.

    Args:
        rng_key: The same key gives the same simulations and runs.
        sampler: What is calibrated.
        call: The call of a model, and which of its arguments are data.
        num_simulations: How many simulations.
        ranking: How draws are made and ranked.

    Raises:
        ValueError: if the model cannot simulate its data, or some of its observed sites are not
            given by an argument.
    """
    data_key, target_key, simulate_key, run_key = jax.random.split(rng_key, 4)
    full_args, full_kwargs = call.with_any_data(data_key)
    own = target_from_model(target_key, call.model, *full_args, **full_kwargs)
    _check_data_sites(own, call)
    target = target_of_data(target_key, own)
    truths, num_replaced = finite_simulations(simulate_key, target, num_simulations)
    _check_that_data_arrive(target_key, call, jax.tree.map(lambda rows: rows[0], truths.data))
    truths = jax.tree.map(np.asarray, truths)  # of which a row costs little to read
    return SimulatedRuns(sampler, call, target, truths, num_replaced, run_key, ranking)


def draws_of(
    sampler: Any, rng_key: RNGKey, num_samples: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Draws of any sampler, given the arguments of a model: `Draws`, or values by site.

    Args:
        sampler: An object with `run(rng_key, *args, **kwargs)`, whose result has
            `sample(rng_key, num_samples=...)`, or which has `get_samples()` afterwards as NumPyro's
            `MCMC` has; or an amortised posterior; or a function of `(rng_key, *args, **kwargs)`.
        rng_key: A JAX key.
        num_samples: Draws that are asked for; `MCMC` and functions decide for themselves.
        args: Positional arguments of the model.
        kwargs: Keyword arguments of the model.
    """
    run_key, sample_key = jax.random.split(rng_key)
    if isinstance(sampler, AmortisedPosterior):
        result = sampler.condition(*args, **kwargs)
    elif hasattr(sampler, "run"):
        result = sampler.run(run_key, *args, **kwargs)
        result = sampler.get_samples() if result is None else result
    else:
        result = sampler(run_key, *args, **kwargs)
    if hasattr(result, "sample"):
        return result.sample(sample_key, num_samples=num_samples)
    return result


def _check_data_sites(target: ModelTarget, call: Call) -> None:
    """Raise a ValueError unless the arguments give just the observed sites."""
    unknown = sorted({*call.data_sites.values()} - {*target.observed})
    if unknown:
        raise ValueError(
            f"data_sites names the sites {unknown}, and with these arguments the model observes "
            f"{sorted(target.observed)}"
        )
    others = sorted({*target.observed} - {*call.data_sites.values()})
    if others:
        raise ValueError(
            f"sites {others} of the model are observed, but not through an argument that is known "
            f"to be data (those are {call.data_sites}), so the sampler would not see what is "
            "simulated for them: pass None for their arguments, or name all of them, as in "
            "data_sites={'y': 'obs'}"
        )


def _check_that_data_arrive(rng_key: RNGKey, call: Call, data: Data) -> None:
    """Raise a ValueError unless the model observes the very data that it is given."""
    args, kwargs = call.with_data(data)
    observed = target_from_model(rng_key, call.model, *args, **kwargs).observed
    for argument, site in call.data_sites.items():
        if not np.array_equal(observed[site], data[site], equal_nan=True):
            raise ValueError(
                f"the argument {argument!r} of the model is changed before it is observed at "
                f"{site!r}, so the sampler would see other data than were simulated: pass data as "
                "they are observed, and change them (logarithms, scales) outside the model"
            )


def _warn_again(caught: list[warnings.WarningMessage]) -> str:
    """Show the warnings that say nothing of the draws, and return the text of the others."""
    said = []
    for one in caught:
        if issubclass(one.category, ReliabilityWarning):
            said.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return " ".join(dict.fromkeys(said))


def _values(target: ModelTarget, draws: Any) -> Any:
    """The draws as positions, or as values of the latent sites by name."""
    if isinstance(draws, Draws):
        if draws.target.sites == target.sites:
            return draws.position
        draws = draws.sites  # of the model in another form, such as centred
    if not isinstance(draws, Mapping):
        return jnp.asarray(draws)
    missing = [name for name in target.sites if name not in draws]
    if missing:
        raise ValueError(
            f"the sampler gave no draws of the latent sites {missing}, but of {sorted(draws)}: it "
            "should sample the model that simulates, and return all of its latent sites by name"
        )
    return {name: jnp.asarray(draws[name]) for name in target.sites}


@eqx.filter_jit  # one program for all simulations: the data are arguments
def _compared(rng_key: RNGKey, target: ModelTarget, data: Data, truth: Vector, values: Any):
    """Positions of draws, their log joint densities, and which of both lie below the truth."""
    posterior = with_data(target, data)
    position, _ = positions_and_weights(posterior, values)
    log_density = jax.vmap(posterior.log_density)(position)
    true_density = posterior.log_density(truth)
    return position, log_density, below_truth(rng_key, position, log_density, truth, true_density)


def _num_effective(draws: Any, position: np.ndarray, log_density: np.ndarray) -> float:
    """How many independent draws these are worth: by their weights, or else as a chain."""
    num = len(position)
    if isinstance(draws, Draws):
        return draws.ess * num
    values = np.concatenate([position, log_density[:, None]], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = effective_sample_size(values[None])
    # A chain that never moves has no autocorrelation, and is worth one draw.
    return float(np.clip(np.min(np.nan_to_num(each, nan=1.0)), 1.0, num))


def _doubt(draws: Any) -> str:
    if not isinstance(draws, Draws):
        return ""
    return "" if draws.verdict.trustworthy else draws.verdict.text
