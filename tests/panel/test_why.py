"""The page that answers why a rule did or did not fire."""

import pytest
from django.urls import reverse

from apps.market.models import Asset
from apps.pipeline.flow import evaluate_pending
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_rule


@pytest.fixture
def ada(client):
    """An owner, signed in."""
    owner = make_operator("ada", "rules.view_rule")
    client.force_login(owner)
    return owner


@pytest.fixture
def rule(db, ada):
    """Above 100 for a minute, on BTC-USD, which rose above it at the tenth second."""
    feed = make_feed("BTC-USD", "ETH-USD", name="spot")
    rule = make_rule(ada, assets=["BTC-USD"], condition=above(100), pending="1m")
    for second, price in ((0, "99"), (10, "101"), (30, "102")):
        append_quotes(feed, [("BTC-USD", at(second), price)])
    evaluate_pending(feed_id=feed.pk)
    return rule


def ask(client, rule, **query):
    if "asset" in query:
        query["asset"] = Asset.objects.get(symbol=query["asset"]).pk
    return client.get(reverse("admin:rules_rule_why", args=[rule.pk]), query)


@pytest.mark.django_db
def test_the_page_asks_for_an_asset_that_the_rule_was_put_on(client, rule):
    answer = ask(client, rule)
    assert [str(asset) for asset in answer.context["form"].fields["asset"].queryset] == ["BTC-USD"]
    assert answer.context["answer"] is None
    assert "BTC-USD is above 100, for 1 minute" in answer.text


@pytest.mark.django_db
def test_the_only_asset_is_chosen_already_and_of_two_none(client, ada, rule):
    both = make_rule(ada, name="both", assets=["BTC-USD", "ETH-USD"], condition=above(100))

    chosen = [ask(client, one).context["form"]["asset"].value() for one in (rule, both)]

    assert chosen == [Asset.objects.get(symbol="BTC-USD").pk, None]


@pytest.mark.django_db
def test_now_is_answered_with_what_the_condition_saw(client, rule):
    answer = ask(client, rule, asset="BTC-USD")
    assert "Pending for 20 s of 60 s since 2026-03-02 12:00:10 UTC." in answer.text
    assert [(depth, part.mark, part.figures) for depth, part in answer.context["lines"]] == [
        (0, "✓", "the price is 102")
    ]
    assert ["price", "102 at 2026-03-02 12:00:30 UTC"] in answer.context["facts"]["rows"]
    assert ["entry of the log", "spot #4, as of 2026-03-02 12:00:30 UTC"] in answer.context["facts"]["rows"]


@pytest.mark.django_db
def test_a_moment_is_answered_as_of_then(client, rule):
    answer = ask(client, rule, asset="BTC-USD", at="2026-03-02T12:00:09")
    assert "Not firing: the condition is false." in answer.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("moment", "refusal"),
    [
        ("9026-03-02T12:00:09", "This cannot be answered: that time is in the future."),
        ("1026-03-02T12:00:09", "This cannot be answered: that moment lies before the feed&#x27;s log begins"),
        ("soon", "Enter a valid date/time."),
        ("9999-12-31T23:59:59", "This cannot be answered: that time is in the future."),
    ],
)
def test_what_cannot_be_answered_is_said(client, rule, moment, refusal):
    answer = ask(client, rule, asset="BTC-USD", at=moment)
    assert answer.status_code == 200
    assert refusal in answer.text


@pytest.mark.django_db
def test_an_asset_that_it_was_never_put_on_is_refused(client, rule):
    assert "Select a valid choice." in ask(client, rule, asset="ETH-USD").text


@pytest.mark.django_db
def test_a_rule_that_was_never_put_on_an_asset_says_so(client, ada):
    rule = make_rule(ada, assets={"tag": "nobody"}, condition=above(100))
    assert "It was never put on an asset" in ask(client, rule).text


@pytest.mark.django_db
def test_nobody_asks_about_the_rules_of_others(client, rule):
    client.force_login(make_operator("grace", "rules.view_rule"))
    assert ask(client, rule, asset="BTC-USD").status_code == 404


@pytest.mark.django_db
def test_asking_needs_the_permission_to_see_rules(client, ada, rule):
    ada.user_permissions.clear()
    assert ask(client, rule, asset="BTC-USD").status_code == 403
    client.logout()
    assert ask(client, rule, asset="BTC-USD").status_code == 302


@pytest.mark.django_db
def test_a_rules_page_leads_to_the_question(client, rule):
    page = client.get(reverse("admin:rules_rule_change", args=[rule.pk]))
    address = reverse("admin:rules_rule_why", args=[rule.pk])
    assert f'href="{address}?asset={Asset.objects.get(symbol="BTC-USD").pk}"' in page.text
