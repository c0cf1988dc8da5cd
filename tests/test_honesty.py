"""Twenty posteriors with exact answers: what is wrong is not trusted, and most are right."""

import gc

import jax
import pytest

from benchmarks.honesty import Case, measure
from benchmarks.honesty_posteriors import posterior_of
from tests.as_users import without_type_checks

NORMAL_MODES = (55, 56, 64, 97, 127, 140, 160, 166, 178, 192)
"""In one dimension, so that few programs serve them all."""

IN_TWO_DIMENSIONS = (30, 108, 165, 168, 196)

OTHERS = (8, 41, 92, 81, 164)
"""Skewed densities and Student modes, in one dimension."""

NUMBERS = (*NORMAL_MODES, *IN_TWO_DIMENSIONS, *OTHERS)


@pytest.fixture(scope="module")
def found():
    with without_type_checks():
        rows = [measure(Case(number, 0)) for number in NUMBERS]
    jax.clear_caches()
    gc.collect()
    return rows


def test_the_posteriors_are_what_is_said():
    assert {posterior_of(number).kind for number in NORMAL_MODES} == {"normal modes"}
    assert {posterior_of(number).dim for number in (*NORMAL_MODES, *OTHERS)} == {1}
    assert {posterior_of(number).dim for number in IN_TWO_DIMENSIONS} == {2}


@pytest.mark.slow
def test_all_have_a_result_and_none_is_wrong_and_trusted(found):
    assert len(found) == 20
    assert [row["failed"] for row in found if row["failed"]] == []
    wrong = [row for row in found if row["trusted"] and not row["right"]]
    assert wrong == []


def test_at_least_nine_in_ten_are_right_and_trusted(found):
    assert sum(row["right"] and row["trusted"] for row in found) >= 19
