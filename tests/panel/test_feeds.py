"""The operators' pages: feeds and their logs."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.market.models import Asset, EvaluationCursor, Feed, FeedEntry, FeedHead, Quote
from apps.panel import assets
from apps.pipeline import corrections
from apps.pipeline.flow import evaluate_pending
from apps.sources import services as sources
from apps.sources.models import FeedSource
from tests.builders import TRACE, above, append_quotes, at, check_all, make_feed, make_operator, make_owner, make_rule

LISTS = ["admin:market_asset_changelist", "admin:market_feed_changelist", "admin:market_feedentry_changelist"]
SOURCES = {
    "sources-TOTAL_FORMS": "1",
    "sources-INITIAL_FORMS": "0",
    "sources-MIN_NUM_FORMS": "1",
    "sources-MAX_NUM_FORMS": "1000",
    "sources-0-position": "1",
    "sources-0-provider": "simulated",
    "sources-0-options": '{"seed": 7}',
}
NO_INLINES = {f"{prefix}-{count}_FORMS": "0" for prefix in ("listings", "aliases") for count in ("TOTAL", "INITIAL")}
NEW_FEED = {
    **{"name": "fresh", "interval_seconds": "5", "time_policy": "event", "jump_percent": "50", "is_enabled": "on"},
    **{"switch_step_percent": "2"},
    **SOURCES,
}


def _feeds(count: int, *, prefix: str) -> None:
    for number in range(count):
        symbol = f"{prefix}-{number}".upper()
        feed = make_feed(symbol, name=f"{prefix}-{number}")
        append_quotes(feed, [(symbol, at(0), "1.50")])


@pytest.mark.django_db
def test_the_page_of_an_entry_shows_what_was_corrected_later_and_that_of_the_correction_what_it_removed(admin_client):
    feed = make_feed("A", name="pushed")
    entry = append_quotes(feed, [("A", at(0), "7.25")])
    corrections.delete_quotes(feed.assets.get(), since=at(0), until=at(1), now=at(2), trace_id=TRACE)
    correction = FeedEntry.objects.get(kind=FeedEntry.Kind.CORRECTION)

    pages = [
        admin_client.get(reverse("admin:market_feedentry_change", args=[one.pk])).text for one in (entry, correction)
    ]
    assert all("7.25" in page for page in pages)
    assert reverse("admin:market_feedentry_change", args=[correction.pk]) in pages[0]
    assert reverse("admin:market_feedentry_change", args=[entry.pk]) in pages[1]


@pytest.fixture
def quoted():
    """Return an asset with quotes at 0, 1 and 2 s."""
    feed = make_feed("A", name="pushed", jump_percent=0)
    for second in range(3):
        append_quotes(feed, [("A", at(second), str(10 + second))])
    return feed.assets.get()


def _delete(client, asset, since=None, until=None, **answered):
    data = {"action": "delete_quotes", "_selected_action": [asset.pk], "index": "0", "back": "1", **answered}
    if since is not None:
        data |= {"since": f"{since:%Y-%m-%dT%H:%M:%S}", "until": f"{until:%Y-%m-%dT%H:%M:%S}", "sure": "yes"}
    return client.post(reverse("admin:market_asset_changelist"), data, follow=True)


@pytest.mark.django_db
def test_wrong_quotes_are_deleted_once_their_count_is_confirmed(admin_client, quoted):
    assert "Delete wrong quotes" in admin_client.get(reverse("admin:market_asset_change", args=[quoted.pk])).text
    assert "Which quotes are wrong?" in _delete(admin_client, quoted).text

    counted = _delete(admin_client, quoted, at(1), at(3))
    assert "This is what goes: 2 quotes deleted." in counted.text
    assert 'name="counted" value="2 quotes deleted"' in counted.text
    # Another range is counted anew.
    again = _delete(admin_client, quoted, at(0), at(3), counted="2 quotes deleted")
    assert "This is what goes: 3 quotes deleted." in again.text
    assert Quote.objects.count() == 3

    done = _delete(admin_client, quoted, at(1), at(3), counted="2 quotes deleted")
    assert "Done: 2 quotes deleted." in done.text
    assert [quote.at for quote in Quote.objects.all()] == [at(0)]
    assert FeedEntry.objects.filter(kind=FeedEntry.Kind.CORRECTION).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("since", "until", "why"),
    [
        (at(1), at(1), "Not deleted: the range ends before it begins."),
        (at(5), at(9), "There are no quotes in this range."),
        (at(0), at(3), "It has more than 2 quotes; use manage.py delete_quotes"),
    ],
)
def test_a_range_that_cannot_be_deleted_is_refused_beside_it(admin_client, quoted, monkeypatch, since, until, why):
    monkeypatch.setattr(assets, "DELETED_MOST", 2)
    assert why in _delete(admin_client, quoted, since, until).text
    assert Quote.objects.count() == 3


@pytest.mark.django_db
def test_who_may_not_delete_quotes_is_not_offered_it(client, quoted):
    client.force_login(make_operator("eve", "market.view_asset", "market.change_asset"))
    assert "Delete wrong quotes" not in client.get(reverse("admin:market_asset_change", args=[quoted.pk])).text
    _delete(client, quoted, at(0), at(3), counted="3 quotes deleted")
    assert Quote.objects.count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_a_list_shows_its_rows(admin_client, page):
    _feeds(2, prefix="feed")
    answer = admin_client.get(reverse(page))
    assert answer.status_code == 200
    assert "feed-1" in answer.text


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_a_list_costs_the_same_statements_for_3_rows_and_for_30(admin_client, django_assert_num_queries, page):
    _feeds(3, prefix="few")
    admin_client.get(reverse(page))
    with CaptureQueriesContext(
        connection,
    ) as few:
        admin_client.get(reverse(page))
    _feeds(27, prefix="more")
    with django_assert_num_queries(len(few)):
        answer = admin_client.get(reverse(page))
    assert len(answer.context["cl"].result_list) == 30


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_an_empty_list_says_what_would_fill_it(admin_client, page):
    answer = admin_client.get(reverse(page))
    assert " yet. " in answer.text


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_a_stranger_is_sent_to_the_sign_in(client, page):
    answer = client.get(reverse(page))
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("admin:login"))


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_staff_without_the_permission_are_refused(client, page):
    client.force_login(make_operator("grace"))
    assert client.get(reverse(page)).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize(
    "page",
    [*LISTS, *(page.replace("changelist", "change") for page in LISTS)],
)
def test_whoever_may_only_look_sees_every_page(client, page):
    _feeds(1, prefix="feed")
    client.force_login(make_operator("grace", "market.view_asset", "market.view_feed", "market.view_feedentry"))
    rows = {"asset": Asset, "feed": Feed, "feedentry": FeedEntry}[page.split("_")[1]].objects
    arguments = [rows.get().pk] if page.endswith("_change") else []
    answer = client.get(reverse(page, args=arguments))
    assert answer.status_code == 200


@pytest.mark.django_db
def test_a_new_feed_has_its_head_and_its_evaluate_and_is_due(admin_client):
    answer = admin_client.post(reverse("admin:market_feed_add"), NEW_FEED)
    assert answer.status_code == 302
    feed = Feed.objects.get()
    assert (feed.name, feed.interval_seconds, feed.is_enabled) == ("fresh", 5, True)
    assert (FeedHead.objects.get().feed, EvaluationCursor.objects.get().feed) == (feed, feed)
    source = feed.sources.get()
    assert (source.position, source.provider, source.options["seed"]) == (1, "simulated", 7)
    assert admin_client.get(reverse("admin:market_feed_change", args=[feed.pk])).status_code == 200


@pytest.mark.django_db
def test_a_new_feed_may_begin_switched_off(admin_client):
    admin_client.post(reverse("admin:market_feed_add"), {**NEW_FEED, "is_enabled": ""})
    assert Feed.objects.get().is_enabled is False


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        {"sources-0-options": '{"speed": "fast"}'},
        {"sources-0-options": "[1]"},
        {"sources-0-options": '{"start_prices": {"A\\u0000": "1"}}'},
        {"sources-0-options": "{"},
        {"sources-0-provider": "nobody"},
        {"sources-TOTAL_FORMS": "0"},
        {"name": "Not A Slug"},
        {"interval_seconds": "0"},
        {"interval_seconds": "604801"},
    ],
)
def test_a_feed_that_is_wrong_anywhere_is_not_made_at_all(admin_client, wrong):
    answer = admin_client.post(reverse("admin:market_feed_add"), {**NEW_FEED, **wrong})
    assert answer.status_code == 200
    assert answer.context["errors"]
    assert (Feed.objects.count(), FeedHead.objects.count(), FeedSource.objects.count()) == (0, 0, 0)


@pytest.mark.django_db
def test_all_wrong_options_are_named_at_once_with_what_they_are_about(admin_client):
    wrong = '{"seed": "100 %s", "volatility": 7, "drift": 0}'
    answer = admin_client.post(reverse("admin:market_feed_add"), {**NEW_FEED, "sources-0-options": wrong})

    (form,) = answer.context["inline_admin_formsets"][0].formset.forms
    assert form.errors == {
        "options": ["seed must be a whole number", "volatility must be a number from 0 to 1"],
    }
    assert json.loads(form.fields["options"].widget.attrs["data-faults"]) == {
        "seed": "seed must be a whole number",
        "volatility": "volatility must be a number from 0 to 1",
    }
    assert not Feed.objects.exists()


@pytest.mark.django_db
def test_a_value_with_a_percent_sign_is_refused_with_itself(admin_client):
    wrong = '{"start_prices": {"100 %s": "0"}}'
    answer = admin_client.post(reverse("admin:market_feed_add"), {**NEW_FEED, "sources-0-options": wrong})
    (form,) = answer.context["inline_admin_formsets"][0].formset.forms
    assert form.errors == {"options": ["start_prices: the price of '100 %s' is out_of_range"]}


@pytest.mark.django_db
def test_the_form_has_labels_of_plain_english(admin_client):
    text = admin_client.get(reverse("admin:market_feed_add")).text
    assert [one for one in ("Interval (seconds)", "Enabled", "Silent after (seconds)") if one not in text] == []
    assert "Is enabled" not in text


@pytest.mark.django_db
def test_blank_options_are_no_options(admin_client):
    admin_client.post(reverse("admin:market_feed_add"), {**NEW_FEED, "sources-0-options": ""})
    assert FeedSource.objects.get().options["seed"] == 1


def _edit(client, feed, **changes):
    source = feed.sources.get()
    return client.post(
        reverse("admin:market_feed_change", args=[feed.pk]),
        {**NEW_FEED, "sources-INITIAL_FORMS": "1", "sources-0-id": source.pk, "sources-0-feed": feed.pk, **changes},
    )


@pytest.mark.django_db
def test_a_feed_is_edited_without_touching_its_head(admin_client):
    _feeds(1, prefix="feed")
    feed = Feed.objects.get()
    before = FeedHead.objects.values().get()
    answer = _edit(admin_client, feed, interval_seconds="1", is_enabled="")
    assert answer.status_code == 302
    feed.refresh_from_db()
    assert (feed.name, feed.interval_seconds, feed.is_enabled) == ("feed-0", 1, False)
    assert FeedHead.objects.values().get() == before


@pytest.mark.django_db
def test_an_interval_that_is_shortened_in_the_admin_takes_effect_at_once(admin_client):
    now = timezone.now()
    feed = sources.create_feed(name="feed", interval_seconds=86_400, sources=[("simulated", {})], now=now)
    sources.fetch(feed_id=feed.pk, slot=feed.head.next_slot, now=now, trace_id=TRACE)
    _edit(admin_client, feed, interval_seconds="5")
    assert Feed.objects.get().interval_seconds == 5
    assert FeedHead.objects.get().next_slot <= timezone.now()


@pytest.mark.django_db
def test_an_interval_and_a_silence_that_fit_only_together_are_saved_together(admin_client):
    feed = make_feed(interval_seconds=60, silent_after_seconds=120)
    for interval, silent in (("300", "600"), ("10", "20")):
        _edit(admin_client, feed, interval_seconds=interval, silent_after_seconds=silent)
        feed = Feed.objects.get()
        assert (feed.interval_seconds, feed.silent_after_seconds) == (int(interval), int(silent))
    answer = _edit(admin_client, feed, interval_seconds="60", silent_after_seconds="59")
    assert "It is silent after its interval at the earliest" in answer.text
    _edit(admin_client, feed, interval_seconds="60", silent_after_seconds="")
    assert Feed.objects.get().silent_after_seconds is None


@pytest.mark.django_db
def test_a_feed_with_a_log_is_not_deleted_and_one_without_is(admin_client):
    _feeds(1, prefix="feed")
    kept, unused = Feed.objects.get(), make_feed(name="typo")
    refused = admin_client.post(reverse("admin:market_feed_delete", args=[kept.pk]), {"post": "yes"})
    admin_client.post(reverse("admin:market_feed_delete", args=[unused.pk]), {"post": "yes"})
    assert refused.status_code == 403
    assert list(Feed.objects.all()) == [kept]
    assert list(FeedHead.objects.values_list("feed", flat=True)) == [kept.pk]


@pytest.mark.django_db
def test_the_feed_list_says_how_each_feed_is(admin_client):
    _feeds(1, prefix="feed")
    append_quotes(Feed.objects.get(), [("FEED-0", at(2), "2")])
    check_all()
    answer = admin_client.get(reverse("admin:market_feed_changelist"), {"o": "-6"})
    for text in ("stopped", "Prices have waited to be evaluated since", "asked every 1 s, effective every 2 s"):
        assert text in answer.text
    assert answer.context["cl"].model_admin.pending(answer.context["cl"].result_list[0]) == 2


@pytest.mark.django_db
def test_the_order_of_two_sources_is_exchanged_in_one_go(admin_client):
    feed = make_feed("BTC-USD")
    FeedSource.objects.create(feed=feed, position=2, provider="coinbase")
    first, second = feed.sources.all()
    inline = {"sources-TOTAL_FORMS": "2", "sources-INITIAL_FORMS": "2"}
    for index, (source, position) in enumerate([(first, "2"), (second, "1")]):
        inline |= {f"sources-{index}-id": source.pk, f"sources-{index}-feed": feed.pk}
        inline |= {f"sources-{index}-position": position, f"sources-{index}-provider": source.provider}
        inline |= {f"sources-{index}-options": "{}"}
    page = reverse("admin:market_feed_change", args=[feed.pk])
    answer = admin_client.post(page, {**NEW_FEED, **inline})

    assert answer.status_code == 302
    assert list(feed.sources.values_list("position", "provider")) == [(1, "coinbase"), (2, "simulated")]


def _press(client, action, *feeds, back=True, sure=False):
    """Ask for an action as the button on a feed's page does, or as the list does."""
    asked = {"action": action, "_selected_action": [feed.pk for feed in feeds], "index": "0", "select_across": "0"}
    asked |= {"back": "page"} if back else {}
    asked |= {"sure": "yes"} if sure else {}
    return client.post(reverse("admin:market_feed_changelist"), asked, follow=True)


@pytest.mark.django_db
def test_a_feed_is_paused_and_resumed_by_the_buttons_of_its_page(admin_client):
    feed = make_feed()
    page = reverse("admin:market_feed_change", args=[feed.pk])
    assert 'value="pause"' in admin_client.get(page).text
    paused = _press(admin_client, "pause", feed)
    assert (paused.request["PATH_INFO"], Feed.objects.get().is_enabled) == (page, False)
    assert "1 feed is paused." in paused.text
    assert 'value="pause"' not in paused.text
    again = _press(admin_client, "pause", feed)
    assert "nothing is changed" in again.text
    resumed = _press(admin_client, "resume", feed)
    assert ("1 feed runs again" in resumed.text, Feed.objects.get().is_enabled) == (True, True)
    assert "nothing is changed" in _press(admin_client, "resume", feed).text


@pytest.mark.django_db
def test_pausing_several_feeds_asks_first(admin_client):
    feeds = [make_feed(name=name) for name in ("one", "two", "three")]
    asked = _press(admin_client, "pause", *feeds[:2], back=False)
    assert "Nothing is fetched until they are resumed" in asked.text
    assert ("<li>one</li>" in asked.text, "<li>three</li>" in asked.text) == (True, False)
    assert Feed.objects.filter(is_enabled=True).count() == 3
    done = admin_client.post(
        reverse("admin:market_feed_changelist"), {**_hidden(asked), "_selected_action": [one.pk for one in feeds[:2]]}
    )
    assert done.status_code == 302
    assert list(Feed.objects.filter(is_enabled=True)) == [feeds[2]]


@pytest.mark.django_db
def test_pausing_a_feed_names_the_rules_that_it_blinds_and_of_others_only_the_owners(client, admin_client):
    feed, other = make_feed("BTC-USD"), make_feed("ETH-USD", name="other")
    ada, eve = make_operator("ada", "market.view_feed", "market.change_feed"), make_owner("eve")
    for owner, name in ((ada, "mine"), (eve, "hers"), (eve, "hers too")):
        make_rule(owner, name=name, assets=["BTC-USD"], condition=above(10))
    make_rule(ada, name="elsewhere", assets=["ETH-USD"], condition=above(10))
    for one in (feed, other):
        evaluate_pending(feed_id=one.pk)
    client.force_login(ada)
    asked = _press(client, "pause", feed)
    assert "These rules see nothing new meanwhile: “mine” of ada, 2 rules of eve." in asked.text
    assert Feed.objects.filter(is_enabled=True).count() == 2
    asked = _press(admin_client, "pause", feed)
    assert "“hers” of eve, “hers too” of eve, “mine” of ada." in asked.text
    _press(client, "pause", feed, sure=True)
    assert list(Feed.objects.filter(is_enabled=False)) == [feed]


@pytest.mark.django_db
def test_a_new_interval_is_not_measured_by_the_answers_at_the_old_one(admin_client):
    feed = make_feed("BTC-USD", interval_seconds=60)
    for second in (1, 2, 3):
        append_quotes(feed, [("BTC-USD", at(second), "10")])
    page = reverse("admin:market_feed_change", args=[feed.pk])
    assert "asked every 60 s, effective every 1 s" in admin_client.get(page).text
    source = feed.sources.get()
    known = {"sources-INITIAL_FORMS": "1", "sources-0-id": source.pk, "sources-0-feed": feed.pk}
    assert admin_client.post(page, NEW_FEED | known | {"interval_seconds": "120"}).status_code == 302
    assert "asked every 2 min, not measured yet" in admin_client.get(page).text


def _hidden(answer):
    return dict(answer.context["carried"]) | {"sure": "yes"}


@pytest.mark.django_db
def test_fetch_now_makes_feeds_due_and_says_what_follows_and_what_does_not(admin_client):
    later, paused = make_feed(name="later"), make_feed(name="paused")
    FeedHead.objects.update(next_slot=timezone.now() + timezone.timedelta(hours=1))
    Feed.objects.filter(pk=paused.pk).update(is_enabled=False)
    answer = _press(admin_client, "fetch_now", later, paused, back=False)
    assert "later: due now." in answer.text
    assert "paused is paused. Resume it first." in answer.text
    assert FeedHead.objects.get(feed=later).next_slot <= timezone.now() < FeedHead.objects.get(feed=paused).next_slot


@pytest.mark.django_db
@pytest.mark.parametrize("action", ["fetch_now", "pause", "resume"])
def test_whoever_may_only_look_at_feeds_has_no_levers(client, action):
    running, paused = make_feed(name="running"), make_feed(name="paused")
    Feed.objects.filter(pk=paused.pk).update(is_enabled=False)
    FeedHead.objects.update(next_slot=timezone.now() + timezone.timedelta(hours=1))
    before = list(FeedHead.objects.order_by("pk").values())
    client.force_login(make_operator("grace", "market.view_feed"))
    page = client.get(reverse("admin:market_feed_change", args=[running.pk]))
    assert 'name="action"' not in page.text
    _press(client, action, running, paused, back=False, sure=True)
    assert dict(Feed.objects.values_list("name", "is_enabled")) == {"running": True, "paused": False}
    assert list(FeedHead.objects.order_by("pk").values()) == before


@pytest.mark.django_db
def test_entries_of_the_log_are_filtered_and_only_looked_at(admin_client):
    _feeds(2, prefix="feed")
    wanted = Feed.objects.get(name="feed-1")
    answer = admin_client.get(
        reverse("admin:market_feedentry_changelist"), {"feed__id__exact": wanted.pk, "kind__exact": "quotes"}
    )
    assert [entry.feed for entry in answer.context["cl"].result_list] == [wanted]
    assert admin_client.get(reverse("admin:market_feedentry_add")).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("page", "lookup"),
    [
        (LISTS[0], "rule_transitions__id__exact"),
        (LISTS[0], "alerts__isnull"),
        (LISTS[0], "name__startswith"),
        (LISTS[0], "feed__entries__id__exact"),
        (LISTS[2], "transitions__id__exact"),
    ],
)
def test_a_list_is_filtered_by_nothing_but_its_filters(admin_client, page, lookup):
    assert admin_client.get(reverse(page), {lookup: "1"}).status_code == 400


@pytest.mark.django_db
def test_an_entry_of_the_log_shows_its_quotes(admin_client):
    _feeds(1, prefix="feed")
    answer = admin_client.get(reverse("admin:market_feedentry_change", args=[FeedEntry.objects.get().pk]))
    (table,) = answer.context["tables"]
    assert table.rows == [["FEED-0", at(0), "1.5", None, "", ""]]
    assert "FEED-0" in answer.text
