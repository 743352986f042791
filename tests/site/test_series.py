"""The pages of derived series outside the admin."""

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from apps.market.derived.models import DerivedSeries
from apps.market.models import Asset
from apps.market.queries import every_asset
from apps.pipeline.flow import evaluate_pending
from apps.site.once import new_key
from tests.builders import append_quotes, at, make_feed, make_owner
from tests.market.derived_rows import make_series

pytestmark = pytest.mark.django_db
NEW, PREVIEW = reverse("series_add"), reverse("series_preview")


@pytest.fixture
def ada(ada):
    ada.groups.add(Group.objects.get(name="Owner"))
    return ada


@pytest.fixture
def feed():
    feed = make_feed("BTC-USD", "BTC-USDC", "ETH-USD")
    append_quotes(feed, [("BTC-USD", at(0), "20000"), ("BTC-USDC", at(0), "25000"), ("ETH-USD", at(0), "1500")])
    return feed


def typed(*legs, kind="ratio", symbol="USDC-USD", **more):
    columns = dict(zip(("asset", "weight", "max_skew"), zip(*legs, strict=True), strict=True))
    legs = {name: list(values) for name, values in columns.items()}
    return {"symbol": symbol, "kind": kind, "key": new_key(), **legs, **more}


RATIO = (("btc-usd", "", ""), ("BTC-USDC", "", "5 minutes"))


def errors_of(client, data, address=PREVIEW):
    return {(one["row"], one["field"]): one["text"] for one in client.post(address, data).json()["errors"]}


def page(series):
    return reverse("series", args=[series.external_id])


def test_who_is_not_signed_in_is_sent_to_sign_in(client, feed):
    key = make_series("X", "ratio", "BTC-USD", "ETH-USD", owner=make_owner("ada")).external_id
    addresses = [reverse("series_list"), NEW, reverse("series_pick")]
    addresses += [reverse(name, args=[key]) for name in ("series", "series_change", "series_delete")]
    for address in addresses:
        answer = client.get(address)
        assert (answer.status_code, answer.url.partition("?")[0]) == (302, reverse("login"))


def test_a_new_series_says_what_its_past_is_and_when_a_quote_comes(client, ada, feed):
    answer = client.post(NEW, typed(*RATIO, currency="usd", name="Dollar coin"), follow=True)
    series = every_asset().get(symbol="USDC-USD")
    assert (series.owner, series.currency, series.name) == (ada, "USD", "Dollar coin")
    assert answer.redirect_chain == [(page(series), 302)]
    assert "USDC-USD was created. Its past is filled: 1 quote from" in answer.text
    assert "The next quote is expected within about" in answer.text
    assert "BTC-USD divided by BTC-USDC" in answer.text
    assert "BTC-USDC&#x27;s 5 minutes" in answer.text
    assert "0.8 USD" in answer.text
    assert "USDC-USD" in client.get(reverse("series_list")).text


def test_a_series_whose_legs_have_no_prices_says_what_it_waits_for(client, ada):
    make_feed("A-USD", "B-USD")
    answer = client.post(NEW, typed(("A-USD", "", ""), ("B-USD", "", "")), follow=True)
    assert "It has no past yet" in answer.text
    assert "No quote comes before A-USD and B-USD have a price." in answer.text


def test_the_form_says_while_it_is_typed_what_it_computes(client, ada, feed):
    legs = [("BTC-USD", "0,5", "90 s"), ("ETH-USD", "-2", "90 s")]
    said = client.post(PREVIEW, typed(*legs, kind="basket")).json()
    assert said["errors"] == []
    assert said["sentences"][:2] == [
        "0.5 × BTC-USD − 2 × ETH-USD, at each time at which a leg has a quote and no leg's quote is older than "
        "90 seconds.",
        "Of the newest prices it is 7\u202f000.",
    ]
    assert not DerivedSeries.objects.exists()


def test_what_is_wrong_stands_beside_its_field(client, ada, feed):
    recorded = make_feed("OLD-USD", name="old")
    type(recorded).objects.filter(pk=recorded.pk).update(is_live=not feed.is_live)
    wrong = {
        (0, "asset"): [("NOPE", "", ""), ("BTC-USD", "", "")],
        (1, "max_skew"): [("BTC-USD", "", ""), ("ETH-USD", "", "soon")],
        (None, "legs"): [("BTC-USD", "", ""), ("OLD-USD", "", "")],
    }
    for place, legs in wrong.items():
        assert place in errors_of(client, typed(*legs)), place
        answer = client.post(NEW, typed(*legs))
        assert (answer.status_code, 'class="error"' in answer.text) == (200, True)
    assert errors_of(client, typed(("BTC-USD", "half", ""), ("ETH-USD", "", ""), kind="basket")) == {
        (0, "weight"): "half is not a number; write it like 1000 or 0.995."
    }
    assert (None, "legs") in errors_of(client, typed(("BTC-USD", "", "")))
    twice = errors_of(client, typed(("BTC-USD", "", ""), ("BTC-USD", "", "")))
    assert twice == {(0, "asset"): "BTC-USD is there twice."}
    assert "There is an asset of this symbol already." in client.post(NEW, typed(*RATIO, symbol="ETH-USD")).text
    assert not DerivedSeries.objects.exists()


def test_at_most_five_levels(client, ada, feed):
    below = "BTC-USD"
    for level in range(5):
        below = make_series(f"L{level}", "ratio", below, "ETH-USD", owner=ada).symbol
    found = errors_of(client, typed((below, "", ""), ("ETH-USD", "", "")))
    assert found == {(None, "legs"): "Series are made of series at most 5 levels deep."}


def test_one_more_leg_keeps_what_is_typed(client, ada, feed):
    text = client.post(NEW, typed(*RATIO, add_leg="1")).text
    assert text.count('name="asset"') == 3
    assert 'value="5 minutes"' in text
    assert not DerivedSeries.objects.exists()


def test_a_change_counts_from_here_on_and_a_cycle_is_refused(client, ada, feed):
    series = make_series("X", "ratio", "BTC-USD", "ETH-USD", owner=ada)
    address = reverse("series_change", args=[series.external_id])
    assert 'value="BTC-USD"' in client.get(address).text
    done = client.post(address, typed(("ETH-USD", "", ""), ("BTC-USD", "", "")), follow=True).text
    assert "X is changed from here on; what it has been stays." in done
    assert "ETH-USD divided by BTC-USD" in done
    cycle = typed(("X", "", ""), ("BTC-USD", "", ""))
    found = errors_of(client, cycle, f"{PREVIEW}?series={series.external_id}")
    assert found == {(0, "asset"): "X is this series itself."}
    assert "X is this series itself." in client.post(address, cycle).text


def test_deleting_asks_first_and_leaves_what_other_series_need(client, ada, feed):
    first = make_series("FIRST", "ratio", "BTC-USD", "ETH-USD", owner=ada)
    second = make_series("SECOND", "ratio", "FIRST", "ETH-USD", owner=ada)
    address = reverse("series_delete", args=[first.external_id])
    assert "cannot be undone" in client.get(address).text
    assert every_asset().filter(pk=first.pk).exists()
    assert "FIRST is a leg of derived series" in client.post(address).text
    for series in (first, second):
        evaluate_pending(feed_id=series.feed_id)
    client.post(reverse("series_delete", args=[second.external_id]))
    answer = client.post(address, follow=True)
    assert "FIRST is deleted." in answer.text
    assert set(every_asset().values_list("symbol", flat=True)) == {"BTC-USD", "BTC-USDC", "ETH-USD"}


def test_a_foreign_series_and_none_get_the_same_bytes(client, ada, feed):
    theirs = make_series("EVES", "ratio", "BTC-USD", "ETH-USD", owner=make_owner("eve")).external_id
    nobodys = "owned-9007199254740000"
    for name in ("series", "series_change", "series_delete"):
        for ask in (client.get, client.post):
            answers = [ask(reverse(name, args=[key])) for key in (theirs, nobodys)]
            assert len({(one.status_code, one.content) for one in answers}) == 1
            assert answers[0].status_code in (404, 405)
    previews = [client.post(f"{PREVIEW}?series={key}", typed(*RATIO)) for key in (theirs, nobodys)]
    assert len({(one.status_code, one.content) for one in previews}) == 1
    assert "EVES" not in client.get(reverse("series_list")).text
    assert client.get(reverse("series_pick"), {"term": "eves"}).json() == {"assets": []}
    assert (0, "asset") in errors_of(client, typed(("EVES", "", ""), ("BTC-USD", "", "")))


def test_legs_are_picked_with_the_best_match_first(client, ada, feed):
    Asset.objects.create(symbol="WETH", name="Wrapped").aliases.create(name="ethereum")
    make_series("ETH", "ratio", "ETH-USD", "BTC-USD", owner=ada)
    found = client.get(reverse("series_pick"), {"term": "eth"}).json()["assets"]
    assert [one["symbol"] for one in found] == ["ETH", "ETH-USD", "WETH"]
    assert client.get(reverse("series_pick"), {"term": ""}).json() == {"assets": []}


def test_without_the_permission_nothing_is_made(client, feed):
    grace = make_owner("grace")
    client.force_login(grace)
    assert "ask whoever runs this site" in client.get(reverse("series_list")).text
    assert [client.get(NEW).status_code, client.post(NEW, typed(*RATIO)).status_code] == [403, 403]
    key = make_series("X", "ratio", "BTC-USD", "ETH-USD", owner=grace).external_id
    for name in ("series_change", "series_delete"):
        assert client.post(reverse(name, args=[key])).status_code == 403
    assert DerivedSeries.objects.count() == 1


def test_a_rule_on_it_begins_with_it(client, ada, feed):
    ada.is_staff = True
    ada.save()
    series = make_series("X", "ratio", "BTC-USD", "ETH-USD", owner=ada)
    link = f"{reverse('admin:rules_rule_add')}?asset=X"
    assert link in client.get(page(series)).text
    assert f'<option value="{series.pk}" selected' in client.get(link).text
    make_series("EVES", "ratio", "BTC-USD", "ETH-USD", owner=make_owner("eve"))
    for other in ("EVES", "NOPE"):
        assert "symbols" not in client.get(link, {"asset": other}).context["adminform"].form.initial
