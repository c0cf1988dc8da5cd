"""What a notebook shows of draws: the verdict, the evidence, and the first rows of the table."""

import dataclasses
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np

from numpyro_bridge.draws.html import DOUBTED, MOST_ROWS, TRUSTED


def tables_of(html: str) -> list[list[list[str]]]:
    """The cells of each table; an error unless every element is closed."""
    page = ElementTree.fromstring(f"<html>{html}</html>")
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in page.iter("table")
    ]


def test_it_says_what_the_printed_summary_says(draws, capsys):
    html = draws._repr_html_()
    draws.print_summary()
    printed = capsys.readouterr().out
    facts, (head, *rows) = tables_of(html)
    assert ["log evidence", f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}"] in facts
    assert all(name in printed and value in printed for name, value in facts)
    assert head == ["", "mean", "std", "median", "5.0%", "95.0%"]
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    for name, *numbers in rows:
        np.testing.assert_allclose(
            np.asarray(numbers, float), np.asarray(lines[name], float), 0.02, 0.006
        )


def test_the_verdict_has_the_colour_of_its_kind(draws):
    doubtful = dataclasses.replace(draws, warnings=("A mode of x < 0 is missing.",))
    html = doubtful._repr_html_()
    assert DOUBTED in html and "x &lt; 0" in html and not doubtful.verdict.trustworthy
    few = draws.verdict.trustworthy
    assert (TRUSTED if few else DOUBTED) in draws._repr_html_()


def test_many_rows_are_left_out_and_counted(draws):
    num = draws.num_samples
    large = dataclasses.replace(draws, sites={"many": jnp.ones((num, 5, 7))})
    html = large._repr_html_()
    _, table = tables_of(html)
    assert len(table) == 1 + MOST_ROWS and table[-1][0] == "many[2,5]"
    assert "and 15 more rows" in html


def test_draws_without_weights_show_the_verdict_alone(draws):
    broken = dataclasses.replace(draws, log_weight=draws.log_weight.at[3].set(jnp.nan))
    html = broken._repr_html_()
    assert DOUBTED in html and tables_of(html) == []
