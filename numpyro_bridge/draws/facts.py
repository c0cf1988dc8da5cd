"""The lines below the table of a summary: the evidence, and what the weights say."""

from collections.abc import Iterator
from typing import Any

import numpy as np

MOST_CHARTS_SHOWN = 8
"""Charts whose masses are printed."""


def facts_about(draws: Any) -> Iterator[tuple[str, str]]:
    """The evidence and the diagnostics of the weights, each with its name.

    Args:
        draws: `Draws`, which print these lines.
    """
    yield "ELBO", f"{draws.elbo:.3f} ± {draws.elbo_error:.3f}"
    if draws.target.has_evidence:
        yield "log evidence", f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}"
    else:
        sites = ", ".join(draws.target.improper_sites)
        at = f" at {sites}" if sites else ""
        yield "log evidence", f"not defined: the prior is improper{at}"
    yield "ESS", f"{draws.ess:.3f} of {draws.num_samples} draws"
    yield "Pareto k-hat", f"{draws.pareto_k:.2f}"
    if draws.num_charts > 1:
        yield "charts", _masses(draws)


def _masses(draws: Any) -> str:
    """The mass of every chart with its error, the heaviest of them."""
    mass, error = draws.chart_masses
    heaviest = np.argsort(-mass)[:MOST_CHARTS_SHOWN]
    # An error of 0.000 would say that there is none.
    digits = int(np.clip(np.ceil(-np.log10(max(np.min(error), 1e-9))), 3, 5))
    words = [f"{mass[chart]:.{digits}f} ± {error[chart]:.{digits}f}" for chart in heaviest]
    rest = len(mass) - len(words)
    more = f" and {rest} lighter ones" if rest > 0 else ""
    return f"{len(mass)}, with masses {', '.join(words)}{more}"
