"""What `DiffusionSampler.amortise` does: from a model and a sampler to all its posteriors."""

from typing import Any

import jax

from numpyro_bridge._core.checks import check_function, check_key
from numpyro_bridge._core.functions import name_of
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.diffusion.weightings import Weighting
from numpyro_bridge.infer.amortise.conditional_training import learn_from_simulations
from numpyro_bridge.infer.amortise.context import Summaries
from numpyro_bridge.infer.amortise.posterior import AmortisedPosterior
from numpyro_bridge.target import Target, target_from_model
from numpyro_bridge.target.simulation import target_of_data
from numpyro_bridge.training.report import RunReport, Seconds

MIN_SIMULATIONS = 100
"""With fewer, quantiles of the data mean little."""


def learn_amortised(
    rng_key: RNGKey,
    sampler: Any,
    args: tuple,
    kwargs: dict[str, Any],
    *,
    num_simulations: int,
    summaries: Summaries,
    weighting: Weighting,
) -> AmortisedPosterior:
    """Check, simulate and train.

    Args:
        rng_key: The same key gives the same result.
        sampler: A `DiffusionSampler`.
        args: Positional arguments of the model.
        kwargs: Keyword arguments of the model.
        num_simulations: Pairs for each of the two stages.
        summaries: What of the data is looked at.
        weighting: How much each noise level counts.
    """
    check_key(rng_key)
    check_function("summaries", summaries, "a function of the observed values by site")
    check_function("weighting", weighting, "weightings.uniform")
    if isinstance(sampler.model, Target):
        raise ValueError(
            "data are simulated from a NumPyro model, and a log density has none: make the sampler "
            "by nb.DiffusionSampler(model)"
        )
    if num_simulations < MIN_SIMULATIONS:
        raise ValueError(
            f"num_simulations must be at least {MIN_SIMULATIONS}, got {num_simulations}"
        )
    target_key, learn_key = jax.random.split(rng_key)
    own = target_from_model(target_key, sampler.model, *args, **kwargs)
    target = target_of_data(target_key, own)
    learned = learn_from_simulations(
        learn_key,
        sampler,
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
        sampler.model,
        target,
        learned.bridge,
        sampler.num_steps,
        summaries,
        of_denoiser.metrics,
        of_normal.metrics,
        report.after(of_normal, of_denoiser),
    )
