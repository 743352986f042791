"""What a backtest found, as its readers write numbers and times."""

from zoneinfo import ZoneInfo

from apps.backtests.wording import Failure, describe_failure, describe_openings
from apps.locales import LOCALES, Reader

GERMAN = Reader(ZoneInfo("Europe/Berlin"), LOCALES["de"])
RULE = {"assets": ["BTC-USD"], "condition": {"kind": "above", "level": "60000.5"}}
OPENING = {
    "asset": "BTC-USD",
    "opened_at": "2026-03-02T12:00:01+00:00",
    "summary": "as the report has it",
    "evidence": {"result": True, "price": "61230.75", "at": "2026-03-02T12:00:01+00:00"},
}


def test_what_an_opening_saw_is_described_by_its_evidence_for_the_reader():
    assert describe_openings([OPENING], document=RULE, reader=GERMAN) == [
        "BTC-USD is above 60.000,5: 61.230,75 at 13:00:01 CET"
    ]
    assert describe_openings([OPENING], document=RULE) == [
        "BTC-USD is above 60\u202f000.5: 61\u202f230.75 at 12:00:01 UTC"
    ]


def test_what_an_older_version_kept_is_shown_as_it_is():
    without = {name: value for name, value in OPENING.items() if name != "evidence"}
    for document, opening in ((RULE, without), (RULE, OPENING | {"evidence": {}}), ({"condition": 1}, OPENING)):
        assert describe_openings([opening], document=document, reader=GERMAN) == ["as the report has it"]


def test_a_failures_numbers_are_the_readers_and_its_texts_as_they_are():
    assert "more than 100.000 times" in describe_failure(Failure.OPENS_TOO_OFTEN, {"at_most": 100_000}, reader=GERMAN)
    assert describe_failure(Failure.EVALUATION_FAILED, {"detail": "1.5 is wrong"}, reader=GERMAN) == "1.5 is wrong"
