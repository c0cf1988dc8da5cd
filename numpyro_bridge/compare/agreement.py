"""Say in words whether a bridge and NUTS can be trusted, and whether they agree."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.verdict import MIN_EFFECTIVE_DRAWS

MAX_R_HAT = 1.01
"""Chains with a larger r-hat than this have not mixed."""

MIN_BACKWARD_ESS = 0.05
"""If draws of NUTS give the bridge a smaller effective share, it misses some of the posterior."""

FALSE_ALARM = 0.01
"""Probability of saying that two exact samplers differ, for all parameters together."""


LOST = 0.1
"""Draws that hold less than this part of a chart's mass have lost it."""

WORTH_NAMING = 0.003
"""Charts with a smaller share of the mass may be missed by chance."""


def doubts_about_nuts(
    table: Any, nuts: Any, shares: np.ndarray, masses: np.ndarray
) -> Iterator[str]:
    """Give reasons why NUTS may have missed something.

    Args:
        table: The parameters of both samplers.
        nuts: The ArviZ object of NUTS.
        shares: The share of its draws on each chart of the bridge.
        masses: The share of the posterior mass on each chart, by the bridge's draws.
    """
    r_hat = table["nuts_r_hat"].max()
    if r_hat > MAX_R_HAT:
        yield f"its chains have not mixed (r-hat up to {r_hat:.3f}, above {MAX_R_HAT})."
    ess = table["nuts_ess"].min()
    if not ess >= MIN_EFFECTIVE_DRAWS:
        yield f"its draws are worth no more than {ess:.0f} independent ones of some parameter."
    stats = getattr(nuts, "sample_stats", {})
    divergences = int(np.sum(stats["diverging"].values)) if "diverging" in stats else 0
    if divergences:
        yield f"{divergences} of its draws diverged, so that it may have missed some of the mass."
    lost = (shares < LOST * masses) & (masses > WORTH_NAMING)
    for chart in np.flatnonzero(lost):
        yield (
            f"chart {chart + 1} of the {len(masses)} that the bridge found has {masses[chart]:.1%} "
            f"of the mass and {shares[chart]:.1%} of its draws: it has missed a mode."
        )


def unseen_by_the_bridge(draws: Draws, backward: BackwardRuns) -> Iterator[str]:
    """Say so if draws of NUTS lie where the bridge hardly ever goes."""
    if backward.ess < MIN_BACKWARD_ESS:
        gap = backward.eubo - draws.log_evidence
        yield (
            f"But draws of NUTS lie where the bridge rarely goes: by these draws, its effective "
            f"sample size is {backward.ess:.1%}, and the EUBO is {gap:.1f} nats above the log "
            "evidence. If the chains of NUTS have mixed, have a bridge trained (process=nb.CMCD), "
            "or train it longer and with more steps."
        )


def agreement(table: Any) -> tuple[bool, str]:
    """Whether the means agree, allowing for the number of comparisons, and a sentence about it."""
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
