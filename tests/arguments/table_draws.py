"""Doors to draws, to ArviZ, to plots, and to comparisons."""

import jax.numpy as jnp

import numpyro_bridge as nb
from tests.arguments.doors import Door
from tests.arguments.kinds import (
    COUNT,
    COUNT_OR_ZERO,
    FLAG,
    NOTHING,
    NUMBER,
    PATH,
    SHARE,
    TEXT,
    count_from,
    optional,
)
from tests.arguments.kinds import KEY as A_KEY
from tests.arguments.world import KEY, model

# Weights and errors may be infinite or no numbers.
ANY_NUMBER = NUMBER.also("not a number")

DRAWS = {
    "Draws": Door(
        lambda world: nb.Draws,
        lambda world: {
            "sites": {"w": jnp.zeros((3, 2))},
            "log_weight": jnp.zeros(3),
            "position": jnp.zeros((3, 2)),
            "log_density": jnp.zeros(3),
            "target": world.target,
        },
        {
            "sites": NOTHING,
            "log_weight": NOTHING,
            "position": NOTHING,
            "log_density": NOTHING,
            "target": NOTHING,
            "num_non_finite": COUNT_OR_ZERO,
            "report": NOTHING,
            "warnings": NOTHING,
            "chart": optional(NOTHING),
            "notes": NOTHING,
        },
    ),
    "draws.ManyDraws": Door(
        lambda world: nb.draws.ManyDraws,
        lambda world: {"results": (world.draws, world.draws)},
        {"results": NOTHING},
    ),
    "draws.ManyDraws.resample": Door(
        lambda world: nb.draws.ManyDraws((world.draws,)).resample,
        lambda world: {"rng_key": KEY, "num_samples": 3},
        {"rng_key": A_KEY, "num_samples": COUNT},
    ),
    "draws.ManyDraws.warn_if_unreliable": Door(
        lambda world: nb.draws.ManyDraws((world.draws,)).warn_if_unreliable,
        lambda world: {},
        {"stacklevel": COUNT},
    ),
    "Draws.resample": Door(
        lambda world: world.draws.resample,
        lambda world: {"rng_key": KEY, "num_samples": 3},
        {"rng_key": A_KEY, "num_samples": COUNT},
    ),
    "Draws.print_summary": Door(
        lambda world: world.draws.print_summary, lambda world: {}, {"prob": SHARE}
    ),
    "Draws.warn_if_unreliable": Door(
        lambda world: world.draws.warn_if_unreliable, lambda world: {}, {"stacklevel": COUNT}
    ),
    "to_inference_data": Door(
        lambda world: nb.to_inference_data,
        lambda world: {"draws": world.draws},
        {
            "draws": NOTHING,
            "num_chains": COUNT,
            "correction": optional(NOTHING).also(name="psis"),
            "rng_key": optional(A_KEY),
            "prior": FLAG,
            "predictive": FLAG,
            "log_likelihood": FLAG,
            "log_prior": FLAG,
            "exclude": NOTHING.also(no_names=[]),
            "coords": optional(NOTHING).also(labels={"w_dim_0": ["intercept", "slope"]}),
            "dims": optional(NOTHING).also(names={"w": ["coefficient"]}),
        },
        ("draws.inference_data:_groups",),
    ),
}


def _plot(function, kinds, **valid) -> Door:
    """A plot, which is not drawn."""
    return Door(
        lambda world: function,
        lambda world: {name: value(world) for name, value in valid.items()},
        kinds,
        tuple(f"draws.plots.{file}:panels" for file in PLOT_FILES),
    )


PLOT_FILES = ("charts", "forest", "marginals", "pairs", "predictive", "ranks", "training")
PLOT_FILES += ("weights",)

PARAMETERS = {
    "samples": NOTHING,
    "parameters": optional(NOTHING).also(names=["slope"]),
    "max_parameters": COUNT,
}


def _samples(world) -> dict:
    return {"bridge": world.idata}


PLOTS = {
    "draws.plots.plot_charts": _plot(
        nb.plots.plot_charts,
        {
            "draws": NOTHING,
            "coordinates": optional(NOTHING).also(pair=[0, 1], pair_of_JAX=jnp.asarray([0, 1])),
        },
        draws=lambda world: world.draws,
    ),
    "draws.plots.plot_forest": _plot(nb.plots.plot_forest, PARAMETERS, samples=_samples),
    "draws.plots.plot_marginals": _plot(nb.plots.plot_marginals, PARAMETERS, samples=_samples),
    "draws.plots.plot_pairs": _plot(
        nb.plots.plot_pairs,
        {**PARAMETERS, "by_chart": FLAG.without("true", "flag of NumPy")},
        samples=_samples,
    ),
    "draws.plots.plot_predictive": _plot(
        nb.plots.plot_predictive,
        {
            "inference_data": NOTHING,
            "group": NOTHING.also(name="posterior_predictive"),
            "max_draws": COUNT,
        },
        inference_data=lambda world: world.idata,
    ),
    "draws.plots.plot_ranks": _plot(
        nb.plots.plot_ranks,
        {"calibration": NOTHING, "prob": SHARE},
        calibration=lambda world: world.calibration,
    ),
    "draws.plots.plot_training": _plot(
        nb.plots.plot_training,
        {
            "metrics": NOTHING,
            "log_evidence": optional(ANY_NUMBER),
            "log_evidence_error": ANY_NUMBER,
        },
        metrics=lambda world: nb.training.SVIMetrics(jnp.zeros(3).__array__()),
    ),
    "draws.plots.plot_weights": _plot(
        nb.plots.plot_weights, {"draws": NOTHING}, draws=lambda world: world.draws
    ),
    "draws.plots.scalar_draws": _plot(
        nb.plots.scalar_draws, {"inference_data": NOTHING}, inference_data=lambda world: world.idata
    ),
    "draws.plots.site_of": _plot(nb.plots.site_of, {"label": TEXT}, label=lambda world: "theta[3]"),
    "draws.plots.take_turns": _plot(
        nb.plots.take_turns,
        {"labels": NOTHING, "maximum": COUNT_OR_ZERO},
        labels=lambda world: ["a", "b[0]"],
        maximum=lambda world: 2,
    ),
}

CHAINS = {"num_chains": COUNT, "num_warmup": COUNT, "num_samples": COUNT, "progress_bar": FLAG}


def _nuts(function, stop: str) -> Door:
    return Door(
        lambda world: function,
        lambda world: {
            "rng_key": KEY,
            "target": world.target,
            "num_chains": 1,
            "num_warmup": 1,
            "num_samples": 1,
        },
        {"rng_key": A_KEY, "target": NOTHING, **CHAINS},
        (stop,),
    )


COMPARISONS = {
    "compare_models": Door(
        lambda world: nb.compare_models,
        lambda world: {"models": {"a": world.draws, "b": world.draws}},
        {
            "models": NOTHING,
            "prior": optional(NOTHING).also(by_name={"a": 1, "b": 2.0}),
            "num_samples": COUNT,
            "rng_key": optional(A_KEY),
        },
    ),
    "calibrate": Door(
        lambda world: nb.calibrate,
        lambda world: {"sampler": lambda key, *args: {}, "model": model, "rng_key": KEY},
        {
            "sampler": NOTHING,
            "model": NOTHING,
            "rng_key": A_KEY,
            "num_simulations": count_from(20),
            "num_samples": count_from(99),
            "num_draws": count_from(20),
            "correction": optional(NOTHING).also(name="psis"),
            "data_sites": optional(NOTHING).also(by_name={"y": "y"}),
            "progress_bar": FLAG,
        },
        ("compare.calibrate:call_without_data",),
    ),
    "compare.leave_out": Door(
        lambda world: nb.compare.leave_out,
        lambda world: {"rng_key": KEY, "posterior": world.posterior},
        {
            "rng_key": A_KEY,
            "posterior": NOTHING,
            "groups": optional(NOTHING).also(by_site={"y": [0, 1, 2, 0, 1, 2]}),
            "num_samples": count_from(2),
            "refit_all": FLAG,
        },
        ("compare.leave_out:_numbered",),
    ),
    "compare.ModelComparison.log_bayes_factor": Door(
        lambda world: world.comparison.log_bayes_factor,
        lambda world: {"name": "a", "other": "b"},
        {"name": NOTHING, "other": NOTHING},
    ),
    "compare_with_nuts": Door(
        lambda world: nb.compare_with_nuts,
        lambda world: {"posterior": world.posterior, "rng_key": KEY},
        {
            "posterior": NOTHING,
            "rng_key": A_KEY,
            "num_samples": count_from(4),
            "num_chains": COUNT,
            "num_warmup": COUNT,
            "nuts_samples": COUNT,
            "nuts": NOTHING,
            "mcmc": optional(NOTHING),
            "log_likelihood": FLAG,
            "coords": optional(NOTHING).also(labels={"w_dim_0": ["intercept", "slope"]}),
            "progress_bar": FLAG,
        },
        ("compare.side_by_side:_drawn",),
    ),
    "compare.Comparison.plot": Door(
        lambda world: world.side_by_side.plot,
        lambda world: {},
        {"folder": optional(PATH)},
        ("compare.side_by_side:plot_marginals",),
    ),
    "compare.numpyro_nuts": _nuts(nb.compare.numpyro_nuts, "compare.nuts:_kernel_and_arguments"),
    "compare.blackjax_nuts": _nuts(nb.compare.blackjax_nuts, "compare.nuts:_import_blackjax"),
}

DOORS = DRAWS | PLOTS | COMPARISONS
