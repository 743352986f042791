"""Pages show times in the reader's zone, with UTC on hover, and forms read them in it; programs are answered in UTC."""

from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import Profile
from apps.market.models import Asset
from apps.notify.models import Silence
from apps.reader import TO_MINUTES, in_zone, show_time, write_time
from tests.builders import START, above, append_quotes, at, make_feed, make_member, make_rule
from tests.portfolios.rows import bought, make_portfolio, record

pytestmark = pytest.mark.django_db

SHOWN = '<time datetime="2026-03-02T12:00:00Z" title="2026-03-02 12:00:00 UTC">{}</time>'


@pytest.fixture
def ada():
    return make_member("ada", is_staff=True)


@pytest.fixture
def kyiv(ada):
    return Profile.objects.create(user=ada, time_zone="Europe/Kyiv")


@pytest.fixture
def bitcoin(settings):
    settings.MARKET_IS_PUBLIC = True
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "100")])
    return Asset.objects.get(symbol="BTC-USD")


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-07-02 12:00:00 UTC"),
        ("Europe/Berlin", "2026-07-02 14:00:00 CEST"),
        ("Asia/Dubai", "2026-07-02 16:00:00 UTC+04"),
        ("America/St_Johns", "2026-07-02 09:30:00 NDT"),
        ("America/Sao_Paulo", "2026-07-02 09:00:00 UTC-03"),
    ],
)
def test_a_time_is_written_with_what_its_zone_is_called_then(zone, shown):
    with timezone.override(zone):
        assert write_time(datetime(2026, 7, 2, 12, tzinfo=UTC)) == shown


def test_the_two_hours_of_the_same_name_have_different_zones():
    with timezone.override("Europe/Berlin"):
        shown = [write_time(datetime(2026, 10, 25, hour, 30, tzinfo=UTC), TO_MINUTES) for hour in (0, 1)]

    assert shown == ["2026-10-25 02:30 CEST", "2026-10-25 02:30 CET"]


def test_a_heading_names_the_zone_of_who_reads_it_and_not_of_who_imports_it():
    heading = in_zone("at")
    with timezone.override("Europe/Kyiv"):
        assert str(heading) == "at (Europe/Kyiv)"
    assert str(heading) == "at (UTC)"


def test_hover_has_the_time_in_utc():
    with timezone.override("Europe/Kyiv"):
        assert show_time(START, with_zone=False) == SHOWN.format("2026-03-02 14:00:00")


def test_strangers_and_who_has_chosen_none_see_utc(client, ada, bitcoin):
    for reader in (Client(), client):
        page = reader.get("/assets/").text
        assert SHOWN.format("2026-03-02 12:00:00") in page
        assert 'data-zone="UTC"' in page
        client.force_login(ada)


@pytest.mark.parametrize("address", ["/", "/assets/", "/assets/BTC-USD/"])
def test_the_site_shows_times_in_the_readers_zone(client, ada, kyiv, bitcoin, address):
    client.force_login(ada)
    page = client.get(address).text

    assert SHOWN.format("2026-03-02 14:00:00") in page
    assert 'data-zone="Europe/Kyiv"' in page
    assert "(UTC)" not in page.replace("midnight (UTC)", "")


def test_the_next_reader_on_the_same_thread_has_their_own_zone(client, ada, kyiv, bitcoin):
    client.force_login(ada)
    client.get("/assets/")

    assert timezone.get_current_timezone_name() == "UTC"
    assert 'data-zone="UTC"' in Client().get("/assets/").text


def test_a_zone_that_there_is_no_more_is_utc(client, ada, kyiv, bitcoin):
    Profile.objects.update(time_zone="Mars/Olympus")
    client.force_login(ada)

    assert 'data-zone="UTC"' in client.get("/assets/").text


def test_the_readers_zone_costs_no_statement(client, ada, kyiv, django_assert_num_queries):
    client.force_login(ada)
    with django_assert_num_queries(2):
        client.get("/accounts/password/")


def test_the_api_stays_in_utc(client, ada, kyiv, bitcoin):
    client.force_login(ada)
    query = '{ asset(id: "BTC-USD") { priceAt } }'
    answer = client.post("/graphql", {"query": query}, "application/json").json()

    assert answer["data"]["asset"]["priceAt"] == "2026-03-02T12:00:00Z"


@pytest.mark.parametrize(
    "address",
    [
        *("/portfolios/", "/portfolios/{pk}/", "/portfolios/{pk}/performance/", "/portfolios/{pk}/transactions/"),
        *("/portfolios/{pk}/{asset}/", "/manual/"),
        *("/admin/portfolios/portfolio/", "/admin/portfolios/transaction/add/"),
    ],
)
def test_portfolios_and_manual_prices_stay_in_utc(client, ada, kyiv, bitcoin, address):
    portfolio = make_portfolio(ada)
    record(portfolio, bought(bitcoin))
    client.force_login(ada)
    page = client.get(address.format(pk=portfolio.pk, asset=bitcoin.pk))

    assert (page.status_code, 'data-zone="UTC"' in page.text) == (200, True)


def test_lists_and_tables_of_the_admin_are_in_the_readers_zone(client, ada, kyiv, bitcoin):
    make_rule(ada, assets=["BTC-USD"], condition=above(10))
    ada.is_superuser = True
    ada.save()
    client.force_login(ada)
    page = client.get(reverse("admin:market_asset_change", args=[bitcoin.pk])).text
    listed = client.get(reverse("admin:market_asset_changelist")).text

    assert SHOWN.format("2026-03-02 14:00:00") in page
    assert "at (Europe/Kyiv)" in page
    assert SHOWN.format("2026-03-02 14:00:00") in listed
    assert "At (Europe/Kyiv)" in listed


def silence(client, moment):
    """Send the form of a new silence that begins at a time on the clock."""
    day, clock = moment.split()
    fields = {"starts_at_0": day, "starts_at_1": clock, "lasts": "2", "comment": "works", "severity": ""}
    return client.post(reverse("admin:notify_silence_add"), fields)


def test_a_form_reads_times_in_the_readers_zone_and_says_so(client, ada, kyiv):
    client.force_login(ada)
    assert "Europe/Kyiv." in client.get(reverse("admin:notify_silence_add")).text

    silence(client, "2030-07-02 14:00:00")

    assert Silence.objects.get().starts_at == datetime(2030, 7, 2, 11, tzinfo=UTC)


@pytest.mark.parametrize("moment", ["2030-03-31 03:30:00", "2030-10-27 03:30:00"])
def test_a_time_that_the_clocks_skip_or_show_twice_is_refused_clearly(client, ada, kyiv, moment):
    client.force_login(ada)
    answer = silence(client, moment)

    assert (answer.status_code, Silence.objects.count()) == (200, 0)
    assert "interpreted in time zone Europe/Kyiv; it may be ambiguous or it may not exist" in answer.text
