"""Pages write numbers and dates by the locale of who reads them; forms and what programs read have points."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Profile
from apps.locales import STANDARD
from apps.market.models import Asset
from apps.pipeline import flow
from apps.reader import active_reader
from tests.builders import above, append_quotes, at, make_feed, make_member, make_rule
from tests.panel.forms import written
from tests.portfolios.rows import bought, make_portfolio, record
from tests.site.portfolio_pages import cells

pytestmark = pytest.mark.django_db


def reader_of(name, **profile):
    """Return a browser of a new member with this profile."""
    user = make_member(name, is_staff=True)
    Profile.objects.create(user=user, **profile)
    client = Client()
    client.force_login(user)
    return client, user


@pytest.fixture
def german():
    return reader_of("anna", locale="de", time_zone="Europe/Berlin")


@pytest.fixture
def american():
    return reader_of("bob", locale="en-US", time_zone="America/New_York")


@pytest.fixture
def feed(settings):
    settings.MARKET_IS_PUBLIC = True
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "61230.25")])
    return feed


def price_and_time(page):
    """Return what a list of assets says of the only one."""
    (row,) = re.findall(r'<tr data-asset="[^"]*".*?</tr>', page, re.DOTALL)
    price = re.search(r'price-now">([^<]*)<', row)[1].strip()
    return price, re.search(r'<time datetime="[^"]*" title="([^"]*)">([^<]*)</time>', row).groups()


def test_readers_of_one_process_each_see_their_own_numbers_and_times(feed, german, american):
    shown = [price_and_time(client.get("/assets/").text) for client in (german[0], american[0], Client(), german[0])]

    berlin = ("61.230,25", ("02.03.2026 12:00:00 UTC", "02.03.2026 13:00:00"))
    assert shown == [
        berlin,
        ("61,230.25", ("03/02/2026 12:00:00 PM UTC", "03/02/2026 07:00:00 AM")),
        ("61\u202f230.25", ("2026-03-02 12:00:00 UTC", "2026-03-02 12:00:00")),
        berlin,
    ]


def test_an_error_in_a_page_leaves_nothing_to_the_next_reader(feed, german, monkeypatch):
    client = german[0]
    client.raise_request_exception = False
    with monkeypatch.context() as broken:
        broken.setattr("apps.site.asset_list.market_rows", lambda *_, **__: 1 / 0)
        assert client.get("/assets/").status_code == 500

    assert (active_reader().locale, str(active_reader().zone)) == (STANDARD.locale, "UTC")
    assert price_and_time(Client().get("/assets/").text)[0] == "61\u202f230.25"


@pytest.mark.parametrize("address", ["/", "/assets/BTC-USD/", "/admin/"])
def test_what_an_alert_saw_is_written_for_who_reads_of_it(feed, german, address):
    client, anna = german
    anna.is_superuser = True
    anna.save()
    make_rule(anna, assets=["BTC-USD"], condition=above("60000.5"))
    append_quotes(feed, [("BTC-USD", at(1), "61230.75")])
    flow.evaluate_pending(feed_id=feed.pk)

    assert "BTC-USD is above 60.000,5: 61.230,75 at 13:00:01 CET" in client.get(address).text


def test_a_summary_is_shown_and_not_stored_anew(feed, german):
    client, anna = german
    rule = make_rule(anna, assets=["BTC-USD"], condition=above("60000.5"))
    append_quotes(feed, [("BTC-USD", at(1), "61230.75")])
    flow.evaluate_pending(feed_id=feed.pk)
    alert = rule.alerts.get()
    for page in (reverse("admin:alerts_alert_changelist"), reverse("admin:alerts_alert_change", args=[alert.pk])):
        assert "61.230,75 at 13:00:01 CET" in client.get(page).text

    alert.refresh_from_db()
    assert alert.summary == "BTC-USD is above 60\u202f000.5: 61\u202f230.75 at 12:00:01 UTC"


def test_a_list_of_alerts_costs_another_reader_one_statement_whatever_its_length(
    feed, german, django_assert_max_num_queries
):
    client, anna = german
    counts = []
    for number in range(2):
        for index in range(3):
            make_rule(anna, name=f"r{number}{index}", assets=["BTC-USD"], condition=above(60_000 + index))
        append_quotes(feed, [("BTC-USD", at(2 * number + 1), "59000")])
        append_quotes(feed, [("BTC-USD", at(2 * number + 2), "61230.75")])
        flow.evaluate_pending(feed_id=feed.pk)
        client.get(reverse("admin:alerts_alert_changelist"))
        with django_assert_max_num_queries(100) as statements:
            answer = client.get(reverse("admin:alerts_alert_changelist"))
        counts.append((len(answer.context["cl"].result_list), len(statements)))

    (few, before), (more, after) = counts
    assert (few < more, after - before) == (True, 0)


def test_a_portfolio_has_the_marks_of_the_reader_and_days_in_utc(feed, german):
    client, anna = german
    portfolio = make_portfolio(anna)
    record(portfolio, bought(Asset.objects.get(), quantity="1234.5", amount="2469.75"))
    text = client.get(reverse("portfolio_transactions", args=[portfolio.pk])).text

    (row,) = cells(text)
    assert ("1.234,5" in row, any("2.469,75" in cell for cell in row)) == (True, True)
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4}", row[0])


def test_forms_of_a_german_reader_have_points_and_read_both(feed, german):
    client, anna = german
    rule = make_rule(anna, assets=["BTC-USD"], condition=above("1234.5"))
    address = reverse("admin:rules_rule_change", args=[rule.pk])
    form = client.get(address).context["adminform"].form
    shown = form.get_initial_for_field(form.fields["level"], "level")
    assert shown == "1234.5"

    for level in (shown, "1.234,5", "1234,5"):
        assert client.post(address, written(level=level)).status_code == 302
    # Another number would be another version.
    assert [one.document["condition"]["level"] for one in rule.versions.all()] == ["1234.5"]


def test_files_and_the_api_have_points_and_iso_times(feed, german):
    client = german[0]
    csv = client.get("/assets/BTC-USD/quotes.csv")
    answer = client.post("/graphql", {"query": '{ asset(id: "BTC-USD") { price priceAt } }'}, "application/json").json()

    assert b"61230.25" in b"".join(csv) if csv.streaming else b"61230.25" in csv.content
    assert answer["data"]["asset"]["priceAt"] == "2026-03-02T12:00:00Z"
    assert "61230.25" in str(answer["data"]["asset"]["price"])
