"""How much of a prompt is read at a time follows what forwards take."""

import pytest

from falcon_runtime.engine.scheduler import Pace
from falcon_runtime.engine.worker import pace_of


@pytest.mark.parametrize(
    ("seconds_a_row", "pace"),
    [(0.0005, Pace(alone=128, beside=32)), (0.004, Pace(128, 8)), (0.01, Pace(64, 8)), (0.5, Pace(32, 8))],
)
def test_slices_take_no_longer_than_somebody_waits(seconds_a_row: float, pace: Pace) -> None:
    assert pace_of([seconds_a_row * rows for rows in range(1, 33)]) == pace
    # With a draft model both read the prompt.
    assert pace_of(*[[seconds_a_row / 2 * rows for rows in range(1, 33)]] * 2) == pace
    # Of a short context fewer rows are measured; more are taken to cost as much each.
    assert pace_of([seconds_a_row * rows for rows in range(1, 5)]) == pace
