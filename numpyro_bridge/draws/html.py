"""What notebooks show of draws and posteriors: short tables, in the colours of the page."""

from collections.abc import Iterable
from html import escape

from numpyro_bridge.draws.summary import Table
from numpyro_bridge.draws.verdict import Verdict

Facts = Iterable[tuple[str, str]]
"""What is known, each with its name."""

MOST_ROWS = 20
"""Rows of the table of parameters."""

TRUSTED, DOUBTED = "#2e7d32", "#c62828"
"""Green and red that can be read on white and on black."""


def html_of_draws(num: int, verdict: Verdict, facts: Facts, table: Table | None) -> str:
    """The verdict, the evidence and the diagnostics, and a table of the first parameters.

    Args:
        num: Number of draws.
        verdict: What is thought of them.
        facts: The evidence and the diagnostics.
        table: Moments and quantiles; None where the weights cannot tell them.
    """
    start = f"<p><b>{num:,} draws.</b> {coloured(verdict.text, verdict.trustworthy)}</p>"
    if table is None:
        return start
    rows = [(name, *(f"{x:.3g}" for x in numbers)) for name, numbers in table.rows.items()]
    parts = [start, html_table((), facts), html_table(("", *table.columns), rows)]
    if table.num_left_out:
        parts.append(f"<p>and {table.num_left_out:,} more rows: <code>print_summary()</code></p>")
    return "".join(parts)


def html_of_posterior(facts: Facts, doubts: Iterable[str]) -> str:
    """How a posterior draws, and what it may have missed."""
    start = "<p><b>Posterior</b>, to be sampled by <code>sample(rng_key)</code></p>"
    rest = "".join(f"<p>{coloured(doubt, good=False)}</p>" for doubt in doubts)
    return start + html_table((), facts) + rest


def coloured(text: str, good: bool) -> str:
    """A sentence in green or red."""
    return f'<span style="color: {TRUSTED if good else DOUBTED}">{escape(text)}</span>'


def html_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column holds names; without a head if there are no columns."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f"<table>{head and f'<thead><tr>{head}</tr></thead>'}<tbody>{body}</tbody></table>"


def _cells(row: Iterable[str]) -> str:
    name, *values = row
    cells = "".join(f'<td style="text-align: right">{escape(value)}</td>' for value in values)
    return f'<th style="text-align: left">{escape(name)}</th>{cells}'
