"""Whether both samplers are to be trusted and agree, in words."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.infer.visited_modes import MIN_MODE_SHARE

MAX_R_HAT = 1.01
"""Chains that differ by more have not seen the same posterior."""

MIN_BACKWARD_ESS = 0.05
"""Effective share, as NUTS's draws see it, below which the bridge misses some of the posterior."""

FALSE_ALARM = 0.01
"""Probability that two exact samplers are said to differ, over all parameters together."""


def doubts_about_nuts(table: Any, nuts: Any, modes: np.ndarray) -> Iterator[str]:
    """Why NUTS may have missed something, a sentence each; `modes` are shares of its draws."""
    r_hat = table["nuts_r_hat"].max()
    if r_hat > MAX_R_HAT:
        yield f"its chains have not mixed (r-hat up to {r_hat:.3f}, above {MAX_R_HAT})."
    stats = getattr(nuts, "sample_stats", {})
    divergences = int(np.sum(stats["diverging"].values)) if "diverging" in stats else 0
    if divergences:
        yield f"{divergences} of its draws diverged, so that it may have missed some of the mass."
    for mode, share in enumerate(modes):
        if share < MIN_MODE_SHARE:
            yield (
                f"mode {mode + 1} of the {len(modes)} that standardisation found "
                f"holds {share:.1%} of its draws: it has missed a mode."
            )


def unseen_by_the_bridge(draws: Draws, backward: BackwardRuns) -> Iterator[str]:
    """Where draws of NUTS lie that the bridge hardly ever makes."""
    if backward.ess < MIN_BACKWARD_ESS:
        gap = backward.eubo - draws.log_evidence
        yield (
            f"But draws of NUTS lie where the bridge rarely goes: its draws count for "
            f"{backward.ess:.1%} as these see it, and the EUBO is {gap:.1f} nats above the log "
            "evidence. Train longer or take more steps."
        )


def agreement(table: Any) -> tuple[bool, str]:
    """Whether the means agree, given how many were compared, and that in words."""
    from scipy.stats import norm

    z = table["z"].abs()
    if z.isna().all():
        return False, "The means cannot be compared: no Monte Carlo error could be estimated."
    limit = float(norm.isf(FALSE_ALARM / (2 * len(z))))
    worst = z.idxmax()
    distance = f"{z[worst]:.1f} Monte Carlo standard errors"
    if z[worst] <= limit:
        return True, (
            f"The means agree: the largest of {len(z)} differences, at {worst}, is {distance}, and "
            f"up to {limit:.1f} are chance."
        )
    return False, (
        f"The means differ: {int((z > limit).sum())} of {len(z)} by more than {limit:.1f} Monte "
        f"Carlo standard errors, which is not chance; the worst, {worst}, by {distance}, which is "
        f"{abs(table['difference'][worst]):.2f} posterior standard deviations."
    )
