"""What a message says, and when it is tried again."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from apps.notify.domain import Told, compose, retry_delay

URL = "https://example.org/admin/alerts/alert/7/change/"


def told(kind="opened", second=0, **changes):
    columns = {"reason": "recovered", "rule": "Peg", "symbol": "USDC-USD", "severity": "critical"}
    columns |= {"words": "USDC-USD is below 0.99: 0.98 at 12:00:00", "url": URL} | changes
    return Told(kind=kind, at=datetime(2026, 3, 2, 12, 0, second, tzinfo=UTC), **columns)


def test_an_opening_says_what_was_seen_and_where_to_look():
    assert compose([told()]) == (
        "[critical] Peg: USDC-USD",
        f"USDC-USD is below 0.99: 0.98 at 12:00:00\nOpened 2026-03-02 12:00:00 UTC.\n\n{URL}",
    )


def test_a_resolution_says_what_is_over():
    assert compose([told("resolved", second=9)]) == (
        "[critical] Peg: USDC-USD is over",
        f"USDC-USD is below 0.99: 0.98 at 12:00:00\nOver since 2026-03-02 12:00:09 UTC (recovered).\n\n{URL}",
    )


def test_an_opening_and_its_resolution_in_one_message_are_told_in_order():
    subject, text = compose([told(), told("resolved", second=9)])

    assert subject == "[critical] Peg: USDC-USD is over"
    assert text.splitlines() == [
        "USDC-USD is below 0.99: 0.98 at 12:00:00",
        "Opened 2026-03-02 12:00:00 UTC.",
        "Over since 2026-03-02 12:00:09 UTC (recovered).",
        "",
        URL,
    ]


@pytest.mark.parametrize("mark", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\t", "  "])
def test_a_subject_is_one_line_whatever_a_rule_is_called(mark):
    subject, _ = compose([told(rule=f"Peg{mark}Bcc: evil@example.org")])

    assert subject == "[critical] Peg Bcc: evil@example.org: USDC-USD"


def test_a_subject_is_cut_to_what_fits():
    subject, _ = compose([told(rule="x" * 300)])

    assert (len(subject), subject[:14]) == (200, "[critical] xxx")


def test_the_waits_grow_and_end_with_the_eighth_attempt():
    waits = [retry_delay(attempts=attempts, uniform=lambda low, high: 1) for attempts in range(1, 10)]

    assert waits == [*(timedelta(seconds=one) for one in (5, 30, 120, 600, 1_800, 7_200, 21_600)), None, None]


def test_a_wait_is_a_fifth_longer_or_shorter_at_most():
    shortest = retry_delay(attempts=2, uniform=lambda low, high: low)
    longest = retry_delay(attempts=2, uniform=lambda low, high: high)
    spread = [retry_delay(attempts=2, uniform=random.Random(7).uniform) for _ in range(2)]

    assert (shortest, longest) == (timedelta(seconds=24), timedelta(seconds=36))
    assert spread[0] == spread[1]
    assert shortest <= spread[0] <= longest
