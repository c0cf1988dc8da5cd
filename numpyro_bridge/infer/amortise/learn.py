"""The steps of `DiffusionSampler.amortise`: check, simulate and train."""

from typing import Any

import jax

from numpyro_bridge._core.checks import check_count, check_function
from numpyro_bridge._core.doors import check_door
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.diffusion.weightings import Weighting
from numpyro_bridge.infer.amortise.conditional_training import learn_from_simulations
from numpyro_bridge.infer.amortise.context import Summaries
from numpyro_bridge.infer.amortise.posterior import AmortisedPosterior
from numpyro_bridge.infer.learning import LearningSettings
from numpyro_bridge.target import Target, target_from_model
from numpyro_bridge.target.simulation import target_of_data
from numpyro_bridge.training.report import RunReport, Seconds

MIN_SIMULATIONS = 100
"""With fewer simulations, quantiles of the data mean little."""


def learn_amortised(
    rng_key: RNGKey,
    model: Any,
    settings: LearningSettings,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    num_simulations: int,
    summaries: Summaries,
    weighting: Weighting,
) -> AmortisedPosterior:
    """Learn the posteriors of all data that a model may make.

    Args:
        rng_key: The same key gives the same result.
        model: A NumPyro model.
        settings: Say how long to train, and with which optimiser.
        args: Positional arguments of the model.
        kwargs: Keyword arguments of the model.
        num_simulations: Number of simulated pairs for each of the two stages.
        summaries: What the networks are shown of the data.
        weighting: How much each noise level counts.
    """
    check_door("DiffusionSampler.amortise", rng_key, model, args, kwargs)
    num_simulations = check_count("num_simulations", num_simulations, MIN_SIMULATIONS)
    _check_request(model, summaries, weighting)
    target_key, learn_key = jax.random.split(rng_key)
    own = target_from_model(target_key, model, *args, **kwargs)
    target = target_of_data(target_key, own)
    learned = learn_from_simulations(
        learn_key,
        settings,
        target,
        num_simulations=num_simulations,
        summaries=summaries,
        weighting=weighting,
    )
    of_normal, of_denoiser = learned.trainings
    report = RunReport(
        process="DenoisingProcess",
        objective="diffusion_elbo",
        weighting=name_of(weighting),
        num_gradient_evaluations=num_simulations,
        seconds=Seconds(simulate=learned.simulation_time),
        num_simulations=2 * num_simulations,
        num_left_out=learned.num_left_out,
    )
    return AmortisedPosterior(
        model,
        target,
        learned.bridge,
        settings.num_steps,
        summaries,
        of_denoiser.metrics,
        of_normal.metrics,
        report.after(of_normal, of_denoiser),
    )


def _check_request(model: Any, summaries: Any, weighting: Any) -> None:
    """Raise a ValueError if this cannot be learned; it says what to write instead."""
    check_function("summaries", summaries, "a function of the observed values by site")
    check_function("weighting", weighting, "weightings.uniform")
    if isinstance(model, Target):
        raise ValueError(
            "amortise simulates data from a NumPyro model, and a target cannot simulate: make the "
            "sampler by nb.DiffusionSampler(model)"
        )
