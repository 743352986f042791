"""The operators' pages: assets, feeds, their logs."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.market.models import Asset, Batch, Feed, FeedHead, FeedSource, JudgePosition
from tests.builders import append_quotes, at, make_feed, make_operator

LISTS = ["admin:market_asset_changelist", "admin:market_feed_changelist", "admin:market_batch_changelist"]
SOURCES = {
    "sources-TOTAL_FORMS": "1",
    "sources-INITIAL_FORMS": "0",
    "sources-MIN_NUM_FORMS": "1",
    "sources-MAX_NUM_FORMS": "1000",
    "sources-0-position": "1",
    "sources-0-provider": "simulated",
    "sources-0-options": '{"seed": 7}',
}
NEW_FEED = {"name": "fresh", "interval_seconds": "5", "is_enabled": "on", **SOURCES}


def _feeds(count: int, *, prefix: str) -> None:
    for number in range(count):
        symbol = f"{prefix}-{number}".upper()
        feed = make_feed(symbol, name=f"{prefix}-{number}")
        append_quotes(feed, [(symbol, at(0), "1.50")])


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
    client.force_login(make_operator("grace", "market.view_asset", "market.view_feed", "market.view_batch"))
    rows = {"asset": Asset, "feed": Feed, "batch": Batch}[page.split("_")[1]].objects
    arguments = [rows.get().pk] if page.endswith("_change") else []
    answer = client.get(reverse(page, args=arguments))
    assert answer.status_code == 200


@pytest.mark.django_db
def test_prices_show_without_trailing_zeros(admin_client):
    _feeds(1, prefix="feed")
    answer = admin_client.get(reverse("admin:market_asset_changelist"))
    assert ">1.5<" in answer.text


@pytest.mark.django_db
def test_an_asset_without_a_quote_shows_so(admin_client):
    make_feed("NEW-USD")
    asset = Asset.objects.get()
    assert "none yet" in admin_client.get(reverse("admin:market_asset_changelist")).text
    assert "none yet" in admin_client.get(reverse("admin:market_asset_change", args=[asset.pk])).text


@pytest.mark.django_db
def test_an_asset_is_edited_and_keeps_its_symbol(admin_client):
    make_feed("NEW-USD")
    asset = Asset.objects.get()
    admin_client.post(
        reverse("admin:market_asset_change", args=[asset.pk]),
        {
            "symbol": "OTHER-USD",
            "name": "New",
            "feed": asset.feed_id,
            "tags": '["fresh"]',
            "listings-TOTAL_FORMS": "1",
            "listings-INITIAL_FORMS": "0",
            "listings-0-provider": "coincap",
            "listings-0-external_id": "new-coin",
        },
    )
    asset.refresh_from_db()
    assert (asset.symbol, asset.name, asset.tags) == ("NEW-USD", "New", ["fresh"])
    assert asset.listings.get().external_id == "new-coin"


@pytest.mark.django_db
@pytest.mark.parametrize("tags", ["5", '{"a": 1}', '"crypto"', '["a\\u0000b"]', "[", '[""]'])
def test_tags_that_are_no_list_of_words_are_refused_in_words(admin_client, tags):
    answer = admin_client.post(
        reverse("admin:market_asset_add"),
        {"symbol": "NEW-USD", "tags": tags, "listings-TOTAL_FORMS": "0", "listings-INITIAL_FORMS": "0"},
    )
    assert answer.status_code == 200
    assert "tags" in answer.context["adminform"].form.errors
    assert not Asset.objects.exists()


@pytest.mark.django_db
def test_an_asset_with_quotes_stays_in_its_feed(admin_client):
    _feeds(2, prefix="feed")
    asset = Asset.objects.get(symbol="FEED-0")
    other = Feed.objects.get(name="feed-1")
    answer = admin_client.post(
        reverse("admin:market_asset_change", args=[asset.pk]),
        {"feed": other.pk, "tags": "[]", "listings-TOTAL_FORMS": "0", "listings-INITIAL_FORMS": "0"},
    )
    assert "FEED-0 has quotes from feed-0; it stays in that feed." in answer.text.replace("&#x27;", "'")
    asset.refresh_from_db()
    assert asset.feed.name == "feed-0"


@pytest.mark.django_db
def test_an_asset_with_quotes_is_not_deleted_and_one_without_is(admin_client):
    _feeds(1, prefix="feed")
    make_feed("TYPO-USD", name="other")
    quoted, unused = Asset.objects.get(symbol="FEED-0"), Asset.objects.get(symbol="TYPO-USD")
    refused = admin_client.post(reverse("admin:market_asset_delete", args=[quoted.pk]), {"post": "yes"})
    admin_client.post(reverse("admin:market_asset_delete", args=[unused.pk]), {"post": "yes"})
    assert refused.status_code == 403
    assert list(Asset.objects.all()) == [quoted]


@pytest.mark.django_db
def test_a_new_feed_has_its_head_and_its_judge_and_is_due(admin_client):
    answer = admin_client.post(reverse("admin:market_feed_add"), NEW_FEED)
    assert answer.status_code == 302
    feed = Feed.objects.get()
    assert (feed.name, feed.interval_seconds, feed.is_enabled) == ("fresh", 5, True)
    assert (FeedHead.objects.get().feed, JudgePosition.objects.get().feed) == (feed, feed)
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
def test_blank_options_are_no_options(admin_client):
    admin_client.post(reverse("admin:market_feed_add"), {**NEW_FEED, "sources-0-options": ""})
    assert FeedSource.objects.get().options["seed"] == 1


@pytest.mark.django_db
def test_a_feed_is_edited_without_touching_its_head(admin_client):
    _feeds(1, prefix="feed")
    feed = Feed.objects.get()
    before = FeedHead.objects.values().get()
    source = feed.sources.get()
    answer = admin_client.post(
        reverse("admin:market_feed_change", args=[feed.pk]),
        {**NEW_FEED, "sources-INITIAL_FORMS": "1", "sources-0-id": source.pk, "sources-0-feed": feed.pk},
    )
    assert answer.status_code == 302
    feed.refresh_from_db()
    assert (feed.name, feed.interval_seconds) == ("feed-0", 5)
    assert FeedHead.objects.values().get() == before


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
def test_the_feed_list_shows_how_many_entries_wait_for_the_judge(admin_client):
    _feeds(1, prefix="feed")
    answer = admin_client.get(reverse("admin:market_feed_changelist"), {"o": "-8"})
    assert "field-pending" in answer.text
    assert answer.context["cl"].model_admin.pending(answer.context["cl"].result_list[0]) == 1


@pytest.mark.django_db
def test_entries_of_the_log_are_filtered_and_only_looked_at(admin_client):
    _feeds(2, prefix="feed")
    wanted = Feed.objects.get(name="feed-1")
    answer = admin_client.get(
        reverse("admin:market_batch_changelist"), {"feed__id__exact": wanted.pk, "kind__exact": "quotes"}
    )
    assert [batch.feed for batch in answer.context["cl"].result_list] == [wanted]
    assert admin_client.get(reverse("admin:market_batch_add")).status_code == 403


@pytest.mark.django_db
def test_an_entry_of_the_log_shows_its_quotes(admin_client):
    _feeds(1, prefix="feed")
    answer = admin_client.get(reverse("admin:market_batch_change", args=[Batch.objects.get().pk]))
    (table,) = answer.context["tables"]
    assert table.rows == [["FEED-0", at(0), "1.5", None, ""]]
    assert "FEED-0" in answer.text
