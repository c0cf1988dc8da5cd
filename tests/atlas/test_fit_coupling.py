"""Which of the short fits of a bent map are made long."""

from typing import Any

import numpy as np
import pytest

from numpyro_bridge.atlas.fit_coupling import Frame, _finalists, _Trial

NO_MAP: Any = None


def trials(*found: tuple[int, float, float]) -> list[_Trial]:
    """Trials from how many coordinates steer, the ELBO, and the gap; the best one first."""
    eye = np.eye(3)
    return [_Trial(Frame(eye, n), NO_MAP, elbo, gap) for n, elbo, gap in found]


@pytest.mark.fast
@pytest.mark.parametrize(
    "found, chosen",
    [
        ([(1, -0.1, 0.3)], [1]),
        ([(1, -0.10, 0.3), (5, -0.14, 0.9)], [1]),
        ([(9, -1.0, 0.7), (2, -1.02, 0.6), (17, -1.03, 0.6), (14, -1.06, 0.5)], [17, 14, 9]),
        ([(2, -1.0, np.inf), (3, -9.0, np.inf)], [3, 2]),
    ],
    ids=["one", "the second is worse", "ties", "nothing is known"],
)
def test_of_fits_that_are_as_good_those_with_most_steering_go_on(found, chosen):
    assert [trial.frame.num_leading for trial in _finalists(trials(*found))] == chosen
