"""What the form of a rule says before it is saved, and after."""

import pytest
from django.urls import reverse

from apps.alerts.models import Alert
from apps.backtests.models import BacktestRun
from apps.market.models import Asset
from apps.notify.models import Message
from apps.notify.services import create_channel
from apps.rules.models import Rule
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_owner, make_rule
from tests.panel.forms import OWNER_MAY, written

ADD, PREVIEW, CONDITION = "admin:rules_rule_add", "admin:rules_rule_preview", "admin:rules_rule_condition"
PAST, SAMPLE = "admin:rules_rule_past", "admin:rules_rule_sample"


@pytest.fixture
def feed(db):
    return make_feed("BTC-USD", "ETH-USD", name="spot")


@pytest.fixture
def ada(client, feed):
    """An owner, signed in."""
    owner = make_operator("ada", *OWNER_MAY)
    client.force_login(owner)
    return owner


def test_the_preview_describes_the_rule_and_says_from_when_it_is_evaluated(client, ada, feed):
    append_quotes(feed, [("BTC-USD", at(0), "9")])
    append_quotes(feed, [("BTC-USD", at(3 * 86_400), "9")])
    both = list(Asset.objects.order_by("symbol").values_list("pk", flat=True))
    fields = {"kind": "below_average", "percent": "0", "window": "30d", "symbols": both, "name": ""}
    answer = client.post(reverse(PREVIEW), written(**fields))
    assert answer.json() == {
        "summary": "BTC-USD, ETH-USD is below its average of 30 days",
        "errors": [],
        "is_whole": True,
        "read": [
            {"field": "percent", "path": "", "text": "0 %"},
            {"field": "window", "path": "", "text": "30 days"},
        ],
        "assets": [
            {
                "symbol": "BTC-USD",
                "is_known": False,
                "summary": "needs 15 of 30 days; 3 are stored: known from 2026-03-17 15:00:00 UTC",
            },
            {"symbol": "ETH-USD", "is_known": False, "summary": "needs 15 of 30 days; no price yet"},
        ],
        "more": 0,
        "warnings": [],
    }
    assert not Rule.objects.exists()


def test_the_preview_names_what_is_wrong_and_where(client, ada):
    answer = client.post(reverse(PREVIEW), written(level="x"))
    message = "level is not a number; write it like 1000 or 0.995."
    assert answer.json()["errors"] == [{"field": "level", "path": "", "message": message}]
    assert answer.json()["summary"] == ""


def test_the_preview_of_what_is_built_grows_with_it_and_names_places(client, ada):
    built = '{"all": [{"kind": "above", "level": "100 000"}, {"any": [{"kind": "rises", "percent": "x"}, {}]}]}'
    answer = client.post(reverse(PREVIEW), written(kind="combined", built=built)).json()
    assert answer["summary"] == "The price is above 100\u202f000 and (… or …)"
    assert answer["read"] == [{"field": "written", "path": "all[0].level", "text": "100\u202f000"}]
    assert [(error["field"], error["path"]) for error in answer["errors"]] == [
        ("written", "all[1].any[0].percent"),
        ("written", "all[1].any[0].window"),
        ("written", "all[1].any[1].kind"),
    ]


def test_what_is_built_is_had_in_the_written_form_and_back(client, ada):
    built = '{"any": [{"kind": "above", "level": "1 005"}, {"kind": "below", "level": ""}]}'
    text = client.post(reverse(CONDITION), {"built": built}).json()["written"]
    assert text == "any:\n- {kind: above, level: '1005'}\n- {kind: below}\n"
    whole = text.replace("{kind: below}", "{kind: below, level: 1.005}  # half a percent")
    assert client.post(reverse(CONDITION), {"written": whole}).json() == {
        "built": {"any": [{"kind": "above", "level": "1005"}, {"kind": "below", "level": "1.0050"}]}
    }


@pytest.mark.parametrize(
    ("posted", "error"),
    [
        ({"built": '{"kind": "above", "level": "1.005"}'}, "level can be read in two ways: write 1.0050 or 1005."),
        ({"built": "["}, "The condition cannot be read. Use its written form."),
        ({"written": "all: []"}, "all must be a list of 1 to 20 conditions."),
        ({"written": "all: ["}, None),
        ({"built": "[" * 19_000}, None),
        ({}, None),
    ],
)
def test_what_cannot_be_converted_is_refused_and_says_why(client, ada, posted, error):
    answer = client.post(reverse(CONDITION), posted).json()
    assert list(answer) == ["error"]
    assert error in (None, answer["error"])


@pytest.mark.parametrize(
    "built",
    [
        *("7", '"text"', "[1]", "{}", '{"all": 7}', '{"all": [7, {"not": []}]}', '{"all": [], "kind": "above"}'),
        *('{"a.b": 1, "kind": "above"}', '{"all.x": [], "all": [{}]}', '{"kind": "above", "level": {"a": []}}'),
        *(
            '{"kind": "above", "level": "1e999999999"}',
            '{"kind": "above", "level": 1e5}',
            r'{"\ud800": 1}',
            r'"\ud800"',
        ),
        *('{"kind": [], "level": "1"}', '{"all[0]": 1, "any": [{"kind": "x", "level": "…"}]}'),
        pytest.param("[" * 9_000, id="deep brackets"),
        pytest.param('{"not": ' * 900 + "{}" + "}" * 900, id="many nots"),
    ],
)
def test_no_condition_that_is_built_breaks_the_form(client, ada, built):
    for address in (PREVIEW, ADD, CONDITION):
        assert client.post(reverse(address), written(kind="combined", built=built, name="")).status_code == 200
    assert client.post(reverse(PREVIEW), written(kind="combined", built=built)).json()["errors"]


def test_the_preview_warns_of_a_window_that_is_narrower_than_the_feed_is_quick(client, ada):
    make_feed("SLOW-USD", name="slow", interval_seconds=60)
    slow = [Asset.objects.get(symbol="SLOW-USD").pk]
    answer = client.post(reverse(PREVIEW), written(kind="rises", percent="1", window="1m", symbols=slow))
    assert answer.json()["warnings"] == [
        "a window of 1 minute (rises) is under twice the pace of slow, where a quote comes every 60 s: it would often "
        "see one price alone"
    ]


def test_the_preview_is_only_posted_to(client, ada):
    assert [client.get(reverse(address)).status_code for address in (PREVIEW, CONDITION, PAST, SAMPLE)] == [405] * 4


def test_after_saving_the_page_says_from_when_it_is_evaluated(client, ada, feed):
    fields = {"kind": "above_average", "percent": "1", "window": "24h"}
    answer = client.post(reverse(ADD), written(**fields) | {"_continue": "1"}, follow=True)
    assert "Not evaluated everywhere yet: BTC-USD: needs 12 of 24 hours; no price yet." in answer.text
    assert [table.rows for table in answer.context["tables"] if table.title == "When it can be evaluated"] == [
        [["BTC-USD", "needs 12 of 24 hours; no price yet"]]
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5_000,
        "level: " + "9" * 5_000,
        "{kind: above, level: 1e999999999}",
        "{kind: above, level: .nan}",
        "{kind: above, level: 2026-01-01}",
        "{kind: !!binary aGk=, level: 1}",
        "!!python/object/apply:os.system [ls]",
        "? [a]\n: b",
        "{1: 2, kind: above, level: 1}",
        "- all",
        "all: []",
        "not: " * 7 + "{kind: above, level: 1}",
        "any: [" + "{kind: above, level: 1}, " * 21 + "]",
        '"\\ud800"',
    ],
)
def test_no_text_breaks_the_form(client, ada, text):
    answer = client.post(reverse(PREVIEW), written(kind="combined", written=text))
    assert [error["field"] for error in answer.json()["errors"]] == ["written"]


@pytest.mark.parametrize("posted", [{}, {"symbols": ["x", "1" * 40]}, {"feed": "x"}, {"watch": "x"}, {"kind": "x"}])
def test_no_post_breaks_the_preview(client, ada, posted):
    answer = client.post(reverse(PREVIEW), posted)
    assert answer.status_code == 200
    assert answer.json()["errors"]


def past(client, **fields):
    return client.post(reverse(PAST), written(**fields)).json()


def test_the_past_beside_the_form_shows_where_it_would_have_opened_and_how_often(client, ada, feed):
    prices = ["9", "11", "9", "12", "9"]
    append_quotes(feed, [("BTC-USD", at(day * 86_400), price) for day, price in enumerate(prices)])
    both = list(Asset.objects.order_by("symbol").values_list("pk", flat=True))
    seen = past(client, kind="above", level="10", symbols=both)
    assert seen["sentence"] == (
        "In the 4 d up to 2026-03-06 12:00 UTC it would have opened 2 alerts on BTC-USD: about 4 a week."
    )
    assert (seen["symbol"], seen["symbols"]) == ("BTC-USD", ["BTC-USD", "ETH-USD"])
    assert [point["y"] for point in seen["chart"]["low"]] == [9, 11, 9, 12, 9]
    assert [(spot["name"], [point["y"] for point in spot["points"]]) for spot in seen["chart"]["spots"]] == [
        ("opened", [11, 12]),
        ("resolved", [9, 9]),
    ]
    assert "at 10, as it was tried: 2 alerts, about 4 a week" in seen["others"]
    assert "at 11: 1 alert, about 2 a week" in seen["others"]
    assert not (Rule.objects.exists() or BacktestRun.objects.exists())


def test_the_past_says_why_there_is_none(client, ada, feed, monkeypatch):
    assert past(client, level="x") == {"refusal": ""}
    assert past(client, level="10") == {"refusal": "No prices of BTC-USD are stored yet."}
    assert past(client, watch="tag", tag="none") == {"refusal": "The rule applies to no asset of a feed yet."}
    append_quotes(feed, [("BTC-USD", at(second), "9") for second in range(4)])
    monkeypatch.setattr("apps.backtests.glimpses.QUOTES_AT_MOST", 3)
    refusal = "This takes longer to try than a form can wait. Save the rule and try it on the past."
    assert past(client, level="10") == {"refusal": refusal}
    monkeypatch.setattr("apps.backtests.glimpses.QUOTES_AT_MOST", 4)
    assert "0 alerts" in past(client, level="10")["sentence"]
    monkeypatch.setattr("apps.backtests.glimpses.SECONDS_AT_MOST", -1)
    assert past(client, level="10") == {"refusal": refusal}


def test_a_sample_goes_to_the_channels_that_are_chosen_and_nothing_else_is_written(client, ada):
    mail = create_channel(owner=ada, name="Mail", kind="email", config={"to": "a@b.org"}, text_template="saw {summary}")
    inbox = create_channel(owner=ada, name="Inbox", kind="inbox", config={})
    chosen = {"channels": [mail.pk, inbox.pk], "name": "High", "level": "100 000"}
    said = client.post(reverse(SAMPLE), written(**chosen)).json()["said"]
    assert [one.partition(":")[0] for one in said] == ["Inbox", "Mail"]
    messages = {one.channel.name: one for one in Message.objects.all()}
    assert messages.keys() == {"Inbox", "Mail"}
    assert {one.kind for one in messages.values()} == {"test"}
    assert messages["Mail"].subject.startswith("[test] ")
    assert "This is a sample, asked for by ada: nothing has happened." in messages["Mail"].text
    assert "saw An example: BTC-USD is above 100\u202f000" in messages["Mail"].text
    assert not (Rule.objects.exists() or Alert.objects.exists())
    assert "was tried less than a minute ago" in client.post(reverse(SAMPLE), written(**chosen)).json()["said"][0]


def test_no_sample_goes_without_a_rule_or_to_channels_of_others(client, ada):
    other = create_channel(owner=make_owner("grace"), name="Hers", kind="inbox", config={})
    assert client.post(reverse(SAMPLE), written()).json() == {"said": ["Choose a channel first."]}
    assert client.post(reverse(SAMPLE), written(channels=[other.pk])).json() == {"said": ["Choose a channel first."]}
    assert client.post(reverse(SAMPLE), written(level="")).json() == {"said": ["Fill in the rule first."]}
    assert not Message.objects.exists()


def test_a_sample_of_a_rule_of_another_goes_to_its_owners_channels(admin_client, feed):
    owner = make_owner("grace")
    inbox = create_channel(owner=owner, name="Hers", kind="inbox", config={})
    rule = make_rule(owner, name="rule", assets=["BTC-USD"], condition=above(1))
    address = f"{reverse(SAMPLE)}?rule={rule.pk}"
    assert admin_client.post(address, written(channels=[inbox.pk])).json()["said"][0].startswith("Hers: queued")
