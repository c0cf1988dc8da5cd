"""The text of printed tables, costs and evidence."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numpyro_bridge.compare.costs import Costs
from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.plots import site_of

COLUMNS = {
    "bridge_mean": ("mean", "bridge", "{:.3g}"),
    "nuts_mean": ("", "NUTS", "{:.3g}"),
    "bridge_sd": ("sd", "bridge", "{:.3g}"),
    "nuts_sd": ("", "NUTS", "{:.3g}"),
    "difference": ("difference", "in sds", "{:.2f}"),
    "z": ("", "in MCSEs", "{:.1f}"),
    "wasserstein": ("Wasserstein", "in sds", "{:.2f}"),
    "bridge_r_hat": ("r-hat", "bridge", "{:.2f}"),
    "nuts_r_hat": ("", "NUTS", "{:.2f}"),
    "bridge_ess": ("bulk ESS", "bridge", "{:.0f}"),
    "nuts_ess": ("", "NUTS", "{:.0f}"),
}
"""For each column of the table two lines of heading, and the format of its numbers."""

MAX_ELEMENTS = 10
"""A site with more elements than this is printed by its worst one only."""


def format_table(table: Any) -> str:
    """Format the parameters: two lines of heading, then a line for each."""
    rows = [["", *(top for top, _, _ in COLUMNS.values())]]
    rows.append(["", *(below for _, below, _ in COLUMNS.values())])
    for label, row in _rows_to_print(table):
        numbers = (form.format(row[name]) for name, (_, _, form) in COLUMNS.items())
        rows.append([label, *numbers])
    return _align(rows)


def _rows_to_print(table: Any) -> Iterator[tuple[str, Any]]:
    for site in dict.fromkeys(map(site_of, table.index)):
        elements = table[[site_of(label) == site for label in table.index]]
        if len(elements) <= MAX_ELEMENTS:
            yield from elements.iterrows()
        else:
            worst = elements["z"].abs().fillna(np.inf).idxmax()
            yield f"{worst} (worst of {len(elements)})", elements.loc[worst]


def format_costs(bridge: Costs, nuts: Costs) -> str:
    """Format the costs, one on each line."""
    rows = [["costs", "bridge", "NUTS"]]
    for ours, theirs in zip(bridge.rows(), nuts.rows(), strict=True):
        rows.append([ours.label, ours.text, theirs.text])
    return _align(rows, label_left=True)


def format_evidence(draws: Draws, backward: BackwardRuns) -> str:
    """Format the evidence, its bounds, and the diagnostics of the weights, one on each line."""
    evidence = "not defined: the prior is improper"
    if draws.target.has_evidence:
        evidence = f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}"
    return "\n".join(
        [
            f"log evidence   {evidence}   (NUTS: none)",
            f"ELBO           {draws.elbo:.3f} ± {draws.elbo_error:.3f}",
            f"EUBO           {backward.eubo:.3f} ± {backward.eubo_error:.3f}   (from NUTS's draws)",
            f"Pareto k-hat   {draws.pareto_k:.2f}",
            f"weighted ESS   {draws.ess:.3f} of {draws.num_samples} draws; "
            f"{backward.ess:.3f} as NUTS's draws see it",
        ]
    )


def _align(rows: list[list[str]], label_left: bool = False) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for label, *cells in rows:
        first = f"{label:<{widths[0]}}" if label_left else f"{label:>{widths[0]}}"
        rest = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)
