"""When an episode is over, by what Alertmanager tells of its labels; what is refused stands in tests/api."""

import pytest

from apps.alerts.alertmanager import SystemAlert, ended_at
from tests.builders import at


def reported(begun, over=None):
    return SystemAlert(
        fingerprint="a",
        opened_at=at(begun),
        resolved_at=None if over is None else at(over),
        severity="info",
        summary="",
        evidence={},
    )


@pytest.mark.parametrize(
    ("alerts", "seconds"),
    [
        pytest.param([reported(10)], None, id="it lasts"),
        pytest.param([reported(10, 20)], 20, id="its own end"),
        pytest.param([reported(10, 10)], 10, id="an end at its beginning"),
        pytest.param([reported(15)], 15, id="another began later"),
        pytest.param([reported(5)], None, id="another began before"),
        pytest.param([reported(5, 20)], 20, id="another began before and ended later"),
        pytest.param([reported(5, 9)], None, id="another ended before it began"),
        pytest.param([reported(10, 20), reported(15)], 15, id="another began while it lasted"),
        pytest.param([reported(10, 20), reported(25)], 20, id="another began after its end"),
    ],
)
def test_an_episode_ends_with_the_first_later_report_of_its_labels(alerts, seconds):
    end = None if seconds is None else at(seconds)
    assert ended_at(at(10), at(10), alerts) == ended_at(at(10), at(10), alerts[::-1]) == end


def test_an_episode_ahead_of_our_clock_does_not_end_by_being_reported_again():
    again = reported(12)._replace(reported_start=at(500))
    assert ended_at(at(10), at(500), [again]) is None
    assert ended_at(at(10), at(500), [again._replace(resolved_at=at(12))]) == at(12)
    assert ended_at(at(10), at(500), [again._replace(reported_start=at(501))]) == at(12)
