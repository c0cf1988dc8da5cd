"""calibrate: whether a sampler gives the posterior, by simulations of which the truth is known.

References: Talts et al. (2018), arXiv:1804.06788; Modrák et al. (2023), arXiv:2211.02383, for the
log joint as a test quantity; Säilynoja et al. (2022), arXiv:2103.10522, for the test of uniformity.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm.auto import tqdm

from numpyro_bridge._core.checks import check_count, check_flag, check_mapping
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.compare.simulated_runs import Ranking, SimulatedRuns, simulated_runs
from numpyro_bridge.draws.calibration import Calibration, checked_numbers
from numpyro_bridge.draws.corrections import Correction, check_correction
from numpyro_bridge.draws.ranking import RankedRun
from numpyro_bridge.target import Target
from numpyro_bridge.target.data_arguments import call_without_data

GIVE_UP_AFTER = 3
"""If so many runs fail, and none before them gave draws, the fault is that of the call."""


def calibrate(
    sampler: Any,
    model: Any,
    rng_key: RNGKey,
    /,
    *args: Any,
    num_simulations: int = 100,
    num_samples: int = 4_000,
    num_draws: int = 99,
    correction: Correction = "metropolis",
    data_sites: Mapping[str, str] | None = None,
    progress_bar: bool = True,
    **kwargs: Any,
) -> Calibration:
    """Simulation-based calibration of any sampler, with its corrections.

    >>> calibration = nb.calibrate(sampler, model, key, x, num_simulations=20)
    >>> figure = nb.plots.plot_ranks(calibration)

    Parameters are drawn from the prior of the model, and data given each of them. The sampler is
    run on each data set, its draws are corrected and thinned, and the true parameters are ranked
    among them. Ranks among draws of the posterior are uniform, for every parameter and for the log
    joint density. An error of the sampler on some data set counts as a run without draws.

    Args:
        sampler: A `BridgeSampler`, a `DiffusionSampler`, an amortised posterior, or any object with
            `run(rng_key, *args, **kwargs)` whose result has `sample(rng_key, num_samples=...)`;
            NumPyro's `MCMC`; or a function that is called as the model is, with a key in front, and
            returns values of the latent sites by name, one draw a row.
        model: The NumPyro model that simulates.
        rng_key: The same key gives the same simulations.
        *args: Positional arguments of the model, with None for the data or without them.
        num_simulations: Number of data sets; a run on each costs little once all is compiled.
        num_samples: Draws that a posterior is asked for, given each data set.
        num_draws: Draws that the ranks are among, evenly spaced among the corrected ones.
        correction: As in `nb.to_inference_data`; draws without weights are ranked as they are.
        data_sites: Name of the observed site for each argument that is data, as `{"y": "obs"}`; by
            default the arguments that are None, with the sites that they make observed. Of the
            value of an argument that is named only the shape matters.
        progress_bar: Whether to show how many runs are done.
        **kwargs: Keyword arguments of the model, with None for the data or without them.

    Returns:
        The ranks, with p-values and a verdict; `print` it, or `nb.plots.plot_ranks` it.

    Raises:
        ValueError: if the model cannot simulate its data, or an argument that is data is not found.
        RuntimeError: if the first three runs all fail; its cause is the error of the sampler.
    """
    _check_request(sampler, model, correction, data_sites)
    check_door("calibrate", rng_key, sampler, model, args, kwargs)
    num_simulations, num_draws = checked_numbers(num_simulations, num_draws)
    num_samples = check_count("num_samples", num_samples, num_draws)
    progress_bar = check_flag("progress_bar", progress_bar)
    ranking = Ranking(num_samples, num_draws, correction)
    call = call_without_data(model, args, kwargs, data_sites)
    runs = simulated_runs(rng_key, sampler, call, num_simulations, ranking)
    hidden = not progress_bar or "CI" in os.environ
    numbers = tqdm(range(num_simulations), desc="calibrating", disable=hidden)
    return runs.calibration(_all(runs, numbers))


def _all(runs: SimulatedRuns, numbers: Iterable[int]) -> list[RankedRun]:
    found: list[RankedRun] = []
    for number in numbers:
        found.append(runs.run(number))
        if len(found) == GIVE_UP_AFTER and all(run.failure for run in found):
            raise RuntimeError(
                f"the first {GIVE_UP_AFTER} runs on simulated data all failed: {found[0].failure}"
            ) from found[0].error
    return found


def _check_request(sampler: Any, model: Any, correction: Any, data_sites: Any) -> None:
    """Raise a ValueError if one stands in the place of another; it says what to write."""
    if not callable(sampler) and not hasattr(sampler, "run") and not hasattr(sampler, "condition"):
        raise ValueError(
            "sampler must be such as nb.BridgeSampler(model), with a method run, or a function of "
            f"(rng_key, *args, **kwargs), got {type(sampler).__name__}"
        )
    if isinstance(model, Target) or not callable(model):
        raise ValueError(
            "calibrate simulates data from a NumPyro model (a function): write "
            "nb.calibrate(sampler, model, rng_key, *model_args), got "
            f"{type(model).__name__} in place of the model"
        )
    check_correction(correction)
    if data_sites is not None:
        check_mapping("data_sites", data_sites, '{"y": "obs"}')
