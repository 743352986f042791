"""The pages of a portfolio's series: made, changed, deleted, and the rule that one comes to from there."""

import re
from fractions import Fraction
from html import unescape

import pytest
from django.urls import reverse

from apps.market.models import Asset
from apps.pipeline import flow
from apps.portfolios.models import PortfolioSeries
from apps.portfolios.series import target_of
from apps.rules.models import Rule
from apps.site.once import new_key
from tests.builders import make_member, make_owned, make_owner
from tests.portfolios.rows import bought, make_asset, make_portfolio, record
from tests.portfolios.series_rows import make_legs
from tests.site.test_portfolios import cells

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client):
    ada = make_member("ada", is_staff=True)
    client.force_login(ada)
    return ada


@pytest.fixture
def savings(ada):
    feed = make_legs()
    portfolio = make_portfolio(ada)
    record(portfolio, bought(feed.assets.get(symbol="ACME"), "2024-03-03", amount="100"))
    return portfolio


def page_of(portfolio):
    return reverse("portfolio_series", args=[portfolio.pk])


def make(client, portfolio, **values):
    given = {"kind": "portfolio_value", "symbol": "MINE", "every_seconds": "60", "target": "", "key": new_key()}
    return client.post(page_of(portfolio), given | values)


def errors(answer):
    assert answer.status_code == 200
    return [unescape(one) for one in re.findall(r'class="error" role="alert">(.*?)</p>', answer.text)]


def one_page(portfolio, asset):
    return reverse("portfolio_one_series", args=[portfolio.pk, asset.external_id])


def test_an_empty_page_says_what_to_do(client, savings):
    text = client.get(page_of(savings)).text
    assert "None yet. Create one below, and then a rule on it" in text
    assert page_of(savings) in client.get(reverse("portfolio", args=[savings.pk])).text


def test_one_makes_a_series_and_comes_to_a_rule_on_it_that_is_filled_in(client, savings):
    assert make(client, savings, kind="portfolio_index", symbol="mine").url == page_of(savings)
    asset = Asset.every.get(symbol="MINE")
    answer = client.get(page_of(savings))
    ((symbol, kind, newest, every, target),) = cells(answer.text)
    assert symbol == "MINENew rule on itChange or delete"
    assert (kind, newest, every, target) == ("Performance index", "1002024-03-04 00:00 UTC", "1 minute", "")
    (link,) = re.findall(r'href="([^"]*/rule/add/[^"]*)"', answer.text)
    form = client.get(unescape(link)).context["adminform"].form
    begins = form.initial
    assert (begins["symbols"], begins["kind"], begins["percent"], begins["window"]) == ([asset.pk], "falls", "5", "24h")
    assert begins["name"] == "Performance index of Savings"
    assert Rule.objects.count() == 0


def test_a_rule_begins_with_no_asset_that_one_does_not_see(client, ada):
    theirs = make_owner("eve")
    foreign = make_owned(theirs, "SECRET").assets(manager="every").get()
    for asked in (foreign.pk, 10**30, "x", 12345):
        form = client.get(reverse("admin:rules_rule_add"), {"asset": asked}).context["adminform"].form
        assert not form.initial.get("symbols")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"symbol": "ACME"}, "There is an asset of this symbol already."),
        ({"symbol": "with space"}, "Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD)."),
        ({"symbol": ""}, "This field is required."),
        ({"every_seconds": "0"}, "Ensure this value is greater than or equal to 1."),
        ({"kind": "portfolio_drift"}, "A drift needs a target, like BTC-USD 60, ACME 30."),
        ({"kind": "portfolio_drift", "target": "NONE 5"}, "There is no asset NONE."),
        ({"kind": "portfolio_drift", "target": "ACME 101"}, "100 % together at most"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(client, savings, values, message):
    (said,) = errors(make(client, savings, **values))
    assert message in said
    assert not PortfolioSeries.objects.exists()


def test_a_portfolio_without_prices_has_no_series(client, ada):
    empty = make_portfolio(ada, "Empty")
    assert errors(make(client, empty)) == ["It cannot be made: the portfolio holds nothing that is in a feed."]


def test_what_is_missing_is_named(client, savings):
    make(client, savings)
    record(savings, bought(make_asset("UNFED"), "2024-03-03"))
    text = client.get(page_of(savings)).text
    assert (
        "UNFED is in no feed that goes by the same clock as the rest, so there is no new quote while it is held."
        in text
    )


def test_a_target_is_changed_and_a_series_deleted(client, savings):
    acme = Asset.objects.get(symbol="ACME")
    make(client, savings, kind="portfolio_drift", target="ACME 60")
    asset = Asset.every.get(symbol="MINE")
    text = client.get(one_page(savings, asset)).text
    assert 'value="ACME 60"' in text
    answer = client.post(one_page(savings, asset), {"every_seconds": "30", "target": "ACME 70, BOLT 30"})
    assert answer.url == page_of(savings)
    row = PortfolioSeries.objects.get()
    bolt = Asset.objects.get(symbol="BOLT")
    assert target_of(row) == {acme.pk: Fraction(7, 10), bolt.pk: Fraction(3, 10), None: 0}
    assert row.every_seconds == 30
    # Its log is not evaluated yet.
    assert "try again in a moment" in client.post(one_page(savings, asset), {"delete": "yes"}).text
    flow.evaluate_pending(feed_id=asset.feed_id)
    assert client.post(one_page(savings, asset), {"delete": "yes"}).url == page_of(savings)
    assert not Asset.every.filter(symbol="MINE").exists()


def test_foreign_series_and_none_are_the_same_and_a_reader_changes_nothing(client, ada, savings):
    make(client, savings)
    asset = Asset.every.get(symbol="MINE")
    eve = make_member("eve")
    client.force_login(eve)
    for path in (page_of(savings), one_page(savings, asset)):
        missing = path.replace(f"/{savings.pk}/", f"/{savings.pk + 1_000}/")
        assert client.get(path).status_code == client.get(missing).status_code == 404
        assert client.get(path).content == client.get(missing).content
    reader = make_owner("reader")
    theirs = make_portfolio(reader, "Theirs")
    client.force_login(reader)
    assert "Create a series" not in client.get(page_of(theirs)).text
    assert make(client, theirs).status_code == 403
    client.logout()
    assert reverse("login") in client.get(page_of(savings)).url
