"""Give back to the report of a run the constant that was left out of its log densities."""

from dataclasses import replace

from numpyro_bridge.infer.posterior import MetricsOrNone, Posterior


def absolute(posterior: Posterior[MetricsOrNone]) -> Posterior[MetricsOrNone]:
    """The posterior with evidences, and bounds on them, of the density that was given.

    All stages of a run work with the density that its target has, which is relative to a place near
    the top where log densities are large.
    """
    log_scale = float(posterior.target.base.log_scale)
    if log_scale == 0:
        return posterior
    metrics, atlas = posterior.metrics, posterior.atlas
    return replace(
        posterior,
        standardisation=posterior.standardisation.raised(log_scale),
        metrics=None if metrics is None else metrics.raised(log_scale),
        atlas=None if atlas is None else atlas.raised(log_scale),
    )
