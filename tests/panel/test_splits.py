"""The page on which a split is entered, the ways to it, and what lets a paused rule go on."""

from decimal import Decimal

import pytest
from django.urls import reverse

from apps.alerts.models import Alert
from apps.market.models import Asset, LatestQuote, Split
from apps.market.splits import ratio_of_step, read_ratio
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import RuleState
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_owner, make_rule

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [("100", "5.1", (20, 1)), ("99", "67", (3, 2)), ("2", "61", (1, 30)), ("10", "5", (2, 1)), ("9", "10", (4, 5))],
)
def test_the_ratio_next_to_a_step_is_suggested(before, after, ratio):
    assert ratio_of_step(Decimal(before), Decimal(after)) == ratio


@pytest.mark.parametrize("text", ["", "20", "20:1:1", "a:1", "-2:1", "2.5:1", "0:1", "1:1", "9999999999:1", "२:1"])
def test_what_is_no_ratio_is_refused(text):
    with pytest.raises(ValueError, match="like 20:1|whole numbers from 1|is no split"):
        read_ratio(text)


@pytest.fixture
def feed():
    feed = make_feed("ACME", jump_percent=0)
    make_rule(make_owner(), name="High", assets=["ACME"], condition=above(50))
    make_rule(
        make_owner("bob"), name="Fall", assets=["ACME"], condition={"kind": "falls", "percent": 50, "window": "1h"}
    )
    append_quotes(feed, [("ACME", at(0), "100")])
    append_quotes(feed, [("ACME", at(120), "5.1")])
    evaluate_pending(feed_id=feed.pk)
    return feed


def address():
    return reverse("admin:market_asset_split", args=[Asset.objects.get().pk])


def answer(client, **data):
    return client.post(
        address(), {"sure": "yes", "effective_at": "2026-03-02T12:01", "ratio": "20:1", **data}, follow=True
    )


def test_a_split_is_entered_once_its_effect_was_shown(admin_client, feed):
    assert "Was ACME split, and when?" in admin_client.get(address()).text

    shown = answer(admin_client)
    effect = shown.context["question"]

    assert "read × 1/20; they stay stored as they came. The newest price, 5.1, is from after it and stays." in effect
    assert "1 rule that names prices is paused" in effect
    assert "at most 1." in effect
    assert Split.objects.count() == 0
    other = answer(admin_client, ratio="10:1", shown=effect)
    assert "× 1/10" in other.context["question"]
    assert Split.objects.count() == 0

    done = answer(admin_client, shown=effect)

    assert "The split 20:1 is entered" in done.text
    evaluate_pending(feed_id=feed.pk)
    assert list(RuleState.objects.order_by("rule__name").values_list("rule__name", "state")) == [
        ("Fall", "inactive"), ("High", "paused"),
    ]  # fmt: skip
    assert "entered already" in answer(admin_client, shown=answer(admin_client).context["question"]).text


def test_the_newest_price_is_shown_as_it_becomes(admin_client, feed):
    append_quotes(feed, [], as_of=at(600))

    shown = answer(admin_client, effective_at="2026-03-02T12:05", ratio="1:2")

    assert "The newest price, 5.1, becomes 10.2." in shown.context["question"]
    assert LatestQuote.objects.get().price == Decimal("5.1")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"ratio": "20"}, "write new shares to old ones, like 20:1."),
        ({"ratio": "1:1"}, "1:1 is no split: nothing would change."),
        ({"effective_at": "soon"}, "Enter a valid date/time."),
        ({"effective_at": "2030-01-01T00:00"}, "Not entered: the clock of the feed feed is at 2026-03-02 12:02:00 UTC"),
    ],
)
def test_a_split_that_cannot_be_entered_is_refused_with_the_reason(admin_client, feed, data, said):
    shown = answer(admin_client, **data)

    assert said in answer(admin_client, **data, shown=shown.context["question"]).text
    assert Split.objects.count() == 0


def test_an_alert_leads_to_the_page_filled_in_with_what_it_saw(admin_client, feed):
    alert = Alert.objects.get(rule__name="Fall")
    page = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert "This was a split" in page.text

    data = {"action": "was_split", "_selected_action": [alert.pk], "index": "0", "back": "1"}
    filled_in = admin_client.post(reverse("admin:alerts_alert_changelist"), data, follow=True)

    assert filled_in.request["PATH_INFO"] == address()
    assert 'value="20:1"' in filled_in.text
    assert 'value="2026-03-02T12:02"' in filled_in.text


def test_a_price_that_waits_leads_to_the_page(admin_client):
    feed = make_feed("ACME")
    append_quotes(feed, [("ACME", at(0), "100")])
    append_quotes(feed, [("ACME", at(120), "5.1")])

    page = admin_client.get(reverse("admin:market_feed_change", args=[feed.pk]))

    assert f"{address()}?effective_at=2026-03-02T12%3A02&amp;ratio=20%3A1" in page.text


def test_who_may_not_enter_a_split_is_neither_offered_it_nor_let_in(client, feed):
    client.force_login(make_operator("eve", "market.view_asset", "market.change_asset"))
    asset = Asset.objects.get()

    assert "Enter a split" not in client.get(reverse("admin:market_asset_change", args=[asset.pk])).text
    assert client.get(address()).status_code == 403
    assert answer(client).status_code == 403
    client.force_login(make_operator("may", "market.view_asset", "market.change_asset", "market.add_split"))
    assert "Enter a split" in client.get(reverse("admin:market_asset_change", args=[asset.pk])).text
    assert client.get(reverse("admin:market_asset_split", args=[asset.pk + 1])).status_code == 404


def test_the_page_of_a_paused_rule_lets_its_owner_confirm_the_levels(admin_client, feed):
    answer(admin_client, shown=answer(admin_client).context["question"])
    evaluate_pending(feed_id=feed.pk)
    state = RuleState.objects.get(state="paused")
    page = reverse("admin:rules_rule_change", args=[state.rule_id])
    assert "Levels are checked" in admin_client.get(page).text

    data = {"action": "confirm_levels", "_selected_action": [state.rule_id], "index": "0"}
    done = admin_client.post(reverse("admin:rules_rule_changelist"), data, follow=True)

    assert "1 rule is evaluated again within seconds." in done.text
    evaluate_pending(feed_id=feed.pk)
    assert list(RuleState.objects.filter(rule=state.rule_id).values_list("state", flat=True)) == ["inactive"]
    assert "Levels are checked" not in admin_client.get(page).text
    again = admin_client.post(reverse("admin:rules_rule_changelist"), data, follow=True)
    assert "Nothing is paused." in again.text
