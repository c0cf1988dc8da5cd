"""Positions in words."""

import numpy as np
import pytest

from numpyro_bridge._core.positions import in_words, middle_one


@pytest.mark.fast
def test_dots_stand_for_further_coordinates():
    assert in_words(np.array([1.23456, -2e-7])) == "[1.23, -2e-07]"
    assert in_words(np.arange(7.0)) == "[0, 1, 2, 3, 4, 5, ...]"


@pytest.mark.fast
def test_the_middle_one_is_a_position_and_no_average():
    two_modes = np.array([[-2.0, 5.0], [-2.1, 5.0], [2.0, 5.0], [2.1, 5.0]])
    assert abs(middle_one(two_modes)[0]) == 2.0
