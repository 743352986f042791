"""The pages on which people create a portfolio, change its settings, and delete it."""

import re

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from apps.market.queries import every_asset
from apps.pipeline import flow
from apps.portfolios.domain.series import SeriesKind
from apps.portfolios.models import LedgerCopy, Portfolio, Transaction
from apps.portfolios.nights import record_night
from apps.portfolios.reconciling import keep_positions
from apps.portfolios.services import correct_transaction, delete_transactions
from tests.builders import above, make_owner, make_rule
from tests.portfolios.making import noon
from tests.portfolios.rows import NOW, bought, close, columns, make_asset, make_portfolio, record, sold, split_of
from tests.portfolios.series_rows import make_legs, series_of
from tests.site.portfolio_pages import page
from tests.threads import at_once

pytestmark = pytest.mark.django_db
LIST, ADD = reverse("portfolios"), reverse("portfolio_add")
SAVINGS = {"name": "Savings", "base_currency": "eur", "method": "fifo"}


@pytest.fixture
def ada(ada):
    """She is no member of the staff, so the admin is closed to her."""
    ada.groups.add(Group.objects.get(name="Owner"))
    return ada


def address(portfolio, name="settings"):
    return reverse(f"portfolio_{name}", args=[portfolio.pk])


def filled_in(client, **fields):
    """Return what a browser sends of a new form."""
    return SAVINGS | {"key": client.get(ADD).context["form"]["key"].value()} | fields


def errors(answer):
    """Return what stands beside each field of a form, and what beside none."""
    return {name: list(texts) for name, texts in answer.context["form"].errors.items()}


def settings_of(portfolio):
    portfolio.refresh_from_db()
    return portfolio.name, portfolio.base_currency, portfolio.method, portfolio.tracks_cash


def change(client, portfolio, **fields):
    return client.post(address(portfolio), SAVINGS | fields)


def settle(series):
    flow.evaluate_pending(feed_id=series.feed_id)
    flow.roll_up()


def test_an_empty_list_leads_to_a_new_portfolio_which_says_what_comes_next(client, ada):
    text = client.get(LIST).text
    assert "No portfolios yet. Create one, then record what you bought, or import a file." in text
    assert f'href="{ADD}">Create a portfolio</a>' in text

    answer = client.post(ADD, filled_in(client, method="average", tracks_cash="on"), follow=True)

    made = Portfolio.objects.get()
    assert (made.owner, *settings_of(made)) == (ada, "Savings", "EUR", "average", True)
    assert answer.redirect_chain == [(reverse("portfolio", args=[made.pk]), 302)]
    assert "The portfolio is created." in answer.text
    assert "Record your first purchase" in answer.text
    assert f'href="{reverse("portfolio", args=[made.pk])}">Savings</a>' in client.get(LIST).text


def test_all_that_is_wrong_stands_beside_its_field_and_what_was_typed_stays(client, ada, savings):
    answer = client.post(ADD, filled_in(client, base_currency="QQQ", method="lifo"))
    assert errors(answer) == {
        "name": ["There is a portfolio of this name already."],
        "base_currency": ["QQQ is not a known currency: use an ISO 4217 code, or that of an asset's price."],
        "method": ["Select a valid choice. lifo is not one of the available choices."],
    }
    assert 'value="QQQ"' in answer.text
    for name in ("", " ", "x" * 65, "a\x00b"):
        assert errors(client.post(ADD, filled_in(client, name=name))).keys() == {"name"}
    assert Portfolio.objects.get() == savings
    # Another owner may have one of this name.
    make_portfolio(make_owner("eve"), "Mine")
    assert client.post(ADD, filled_in(client, name="Mine")).status_code == 302


def test_a_form_that_is_sent_twice_creates_one_portfolio_and_leads_to_it(client, ada):
    form = filled_in(client)
    first, second = (client.post(ADD, form) for _ in range(2))
    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, first.url)
    made = Portfolio.objects.get()
    client.post(address(made, "delete"))
    assert client.post(ADD, form).url == LIST
    assert not Portfolio.objects.exists()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_double_click_creates_one_portfolio(client, ada):
    form = filled_in(client)

    def send():
        browser = Client()
        browser.cookies = client.cookies
        return browser.post(ADD, form)

    first, second = at_once(send, send)
    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, first.url)
    assert Portfolio.objects.count() == 1


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_portfolios_of_one_name_that_are_created_at_once_one_is_refused(client, ada):
    forms = [filled_in(client) for _ in range(2)]

    def send(form):
        browser = Client()
        browser.cookies = client.cookies
        return browser.post(ADD, form)

    answers = at_once(*(lambda form=form: send(form) for form in forms))
    assert sorted(answer.status_code for answer in answers) == [200, 302]
    assert Portfolio.objects.count() == 1


def test_settings_are_changed_and_counted_at_once(client, savings, acme):
    record(savings, bought(acme), bought(acme, quantity="10", amount="2000"), sold(acme, quantity="10", amount="3000"))
    form = client.get(address(savings)).context["form"]
    assert [form[name].value() for name in SAVINGS] == ["Savings", "EUR", "fifo"]
    assert LedgerCopy.objects.get().totals["realised"] == "2000"

    changed = {"name": "Old age", "base_currency": "EUR", "method": "average"}
    answer = client.post(address(savings), changed, follow=True)

    assert settings_of(savings) == ("Old age", "EUR", "average", False)
    assert "The settings are saved." in answer.text
    assert LedgerCopy.objects.get().totals["realised"] == "1500"
    # Its own name is no other's.
    assert change(client, savings, name="Old age").status_code == 302
    make_portfolio(savings.owner, "Other")
    assert errors(change(client, savings, name="Other")) == {"name": ["There is a portfolio of this name already."]}


def test_cash_is_chosen_until_the_first_transaction_and_then_it_is_said_that_it_stays(client, savings, acme):
    assert "This stays so from the first transaction on." in client.get(address(savings)).text
    for posted, tracks_cash in (({"tracks_cash": "on"}, True), ({}, False)):
        assert change(client, savings, **posted).status_code == 302
        assert settings_of(savings)[3] is tracks_cash
    [row] = record(savings, bought(acme))
    assert "This stays as it is, since the portfolio has transactions or series." in client.get(address(savings)).text

    answer = change(client, savings, name="Other", tracks_cash="on")

    said = ["It has transactions or series, so it goes on not tracking cash."]
    assert errors(answer) == {"tracks_cash": said}
    assert settings_of(savings) == ("Savings", "EUR", "fifo", False)
    delete_transactions(rows=[row], by=None, now=NOW)
    assert change(client, savings, tracks_cash="on").status_code == 302


def test_what_was_transferred_to_a_portfolio_fixes_its_cash_too(client, ada, savings, acme):
    other = make_portfolio(ada, "Other", tracks_cash=True)
    record(savings, bought(acme), columns("2024-02-01", "transfer", asset=acme, quantity="1", to_portfolio=other))
    said = ["It has transactions or series, so it goes on tracking cash."]
    assert errors(change(client, other, name="Other")) == {"tracks_cash": said}


def test_the_base_currency_stays_while_a_written_rate_or_a_series_depends_on_it(client, ada):
    savings, acme = make_portfolio(ada), make_legs().assets.get(symbol="ACME")
    record(savings, bought(acme, "2024-03-03", amount="100"))
    assert change(client, savings, base_currency="USD").status_code == 302
    [row] = record(savings, bought(acme, "2024-03-03", amount="100", rate="2"))
    said = ["Some of its transactions have a rate into USD; remove those rates first."]
    assert errors(change(client, savings)) == {"base_currency": said}
    correct_transaction(row=row, columns={"rate": None}, by=ada, now=NOW)
    series_of(savings, SeriesKind.VALUE)
    said = ["It has series in USD, which stay as they were; delete these first."]
    assert errors(change(client, savings)) == {"base_currency": said}
    assert settings_of(savings)[1] == "USD"


def test_settings_that_cannot_be_computed_are_refused_with_why(client, savings, acme):
    record(savings, bought(acme), sold(acme))
    split_of(acme, "2024-01-15", 1, 10)
    [said] = errors(change(client, savings, name="Other"))["__all__"]
    assert said.startswith("The portfolio cannot be computed. With this, the sell of 2024-02-01 (ACME) would be wrong.")
    assert settings_of(savings)[0] == "Savings"


def test_deleting_says_what_goes_and_all_of_it_goes(client, ada):
    savings, acme = make_portfolio(ada), make_legs().assets.get(symbol="ACME")
    close(acme, "2024-03-01", "10")
    [row] = record(savings, bought(acme, "2024-03-01", amount="100"))
    correct_transaction(row=row, columns={"notes": "x"}, by=ada, now=NOW)
    record_night(portfolio_id=savings.pk, now=noon("2024-03-03"))
    given = {"name": "held.csv", "day": noon("2024-03-02").date(), "stated": {}, "now": NOW}
    keep_positions(portfolio=savings, **given)
    value = series_of(savings, SeriesKind.VALUE)
    make_rule(ada, name="low", assets=["VALUE"], condition=above(1))

    text = " ".join(client.get(address(savings, "delete")).text.split())

    listed = text[text.index("This is deleted") : text.index("It cannot be undone")]
    for said in (
        "Transactions: 1",
        "Earlier versions of corrected and deleted transactions: 1",
        "Values recorded each night: 1",
        "Reconciled files of positions: 1",
        "The series VALUE, with its quotes and the alerts about it; rules stop watching it",
    ):
        assert f"<li>{said}</li>" in listed
    assert Portfolio.objects.get() == savings
    text = client.post(address(savings, "delete")).text
    assert re.search(r"The feed of VALUE has \d+ entries to evaluate; try again in a moment\.", text)
    assert Portfolio.objects.get() == savings
    settle(value)
    answer = client.post(address(savings, "delete"), follow=True)
    assert answer.redirect_chain == [(LIST, 302)]
    assert "Savings is deleted." in answer.text
    assert (Portfolio.objects.exists(), Transaction.objects.exists()) == (False, False)
    assert not every_asset().filter(pk=value.pk).exists()
    assert client.post(address(savings, "delete")).status_code == 404


def test_a_portfolio_that_another_one_needs_is_not_deleted_and_the_page_says_why(client, ada, savings, acme):
    other = make_portfolio(ada, "Other")
    moved = columns("2024-02-01", "transfer", asset=acme, quantity="4", to_portfolio=other)
    record(savings, bought(acme), moved)
    record(other, sold(acme, "2024-03-01", "4"))
    for portfolio, why in (
        (other, "Savings transfers to it; delete or correct those transfers first."),
        (savings, "What it transferred to other portfolios has left them since: "),
    ):
        answer = client.post(address(portfolio, "delete"))
        assert answer.status_code == 200
        assert f"<b>It is not deleted.</b> {why}" in answer.text
    assert Portfolio.objects.count() == 2


def test_a_foreign_portfolio_and_none_get_the_same_bytes(client, ada):
    theirs = make_portfolio(make_owner("eve"), "EVES")
    for name in ("settings", "delete"):
        for call in (client.get, client.post):
            answers = [call(reverse(f"portfolio_{name}", args=[pk])) for pk in (theirs.pk, theirs.pk + 1000)]
            assert {(one.status_code, one.content) for one in answers} == {(404, answers[0].content)}
    assert Portfolio.objects.get() == theirs


def test_a_superuser_changes_what_is_somebodys_and_it_stays_theirs(client, ada, savings):
    make_portfolio(ada, "Other")
    root = User.objects.create_superuser("root")
    make_portfolio(root, "Roots")
    client.force_login(root)
    assert change(client, savings, name="Roots").status_code == 302
    assert (savings.owner, settings_of(savings)[0]) == (ada, "Roots")
    assert errors(change(client, savings, name="Other")).keys() == {"name"}


def test_each_page_needs_its_permission_and_is_offered_to_those_who_have_it(client, ada, savings):
    ways = {"add": ADD, "change": address(savings), "delete": address(savings, "delete")}
    ada.groups.clear()

    def offered():
        text = client.get(LIST).text + page(client, "portfolio", savings).text
        return {name for name, way in ways.items() if f'href="{way}"' in text}

    assert offered() == set()
    assert {call(way).status_code for way in ways.values() for call in (client.get, client.post)} == {403}
    for name, way in ways.items():
        ada.user_permissions.set([Permission.objects.get(codename=f"{name}_portfolio")])
        assert (offered(), client.get(way).status_code) == ({name}, 200)
    client.logout()
    for way in ways.values():
        assert client.get(way).url.partition("?")[0] == reverse("login")


def test_what_fields_are_described_by_is_on_the_page(client, savings):
    make_asset("OTHER")
    text = change(client, savings, name="", base_currency="QQQ").text
    for one in ("id_name_error", "id_base_currency_error", "id_tracks_cash_helptext"):
        assert f'id="{one}"' in text
        assert one in text.partition('aria-describedby="')[2]
