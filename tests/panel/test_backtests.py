"""The pages of backtests: asked for from a rule's page, followed, cancelled, read."""

from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from apps.backtests import services as runs
from apps.backtests.models import BacktestRun
from apps.market.models import Feed
from tests.builders import START, above, append_quotes, at, make_feed, make_operator, make_rule
from tests.panel.forms import written

LIST = reverse("admin:backtests_backtestrun_changelist")
GONE = "00000000-0000-4000-8000-000000000000"
MAY = ("rules.view_rule", "rules.change_rule")


def make_priced_rule(owner, *symbols, prices=("9", "11", "9", "12")):
    """Return a rule `above 10` on assets with one quote a second from START on."""
    symbols = symbols or ("BTC-USD",)
    feed = make_feed(*symbols, name=symbols[0].lower(), jump_percent=0)
    append_quotes(feed, [(symbol, at(second), price) for symbol in symbols for second, price in enumerate(prices)])
    return make_rule(owner, name=f"{symbols[0]} is high", assets=list(symbols), condition=above(10, recovery=8))


def try_page(rule):
    return reverse("admin:backtests_backtestrun_try", args=[rule.pk])


def run_page(run):
    return reverse("admin:backtests_backtestrun_change", args=[run.pk])


def filled(rule, **changed):
    """Return what a browser sends that changes nothing on the page."""
    document = 'assets: [BTC-USD]\ncondition: {kind: above, level: "10"}'
    return {"since": "2026-03-02T12:00:00", "until": "2026-03-02T12:00:04", "document": document} | changed


def ask(rule, *, until=None):
    return runs.request_backtest(owner=rule.owner, rule=rule, since=START, until=until or at(4), now=timezone.now())


def tried(rule, **more):
    """Return a backtest of the rule that is done."""
    run = ask(rule, **more)
    runs.run_backtest(run_id=run.pk)
    run.refresh_from_db()
    return run


@pytest.mark.django_db
def test_a_rules_page_leads_to_its_trial(admin_client, admin_user):
    rule = make_priced_rule(admin_user)
    page = admin_client.get(reverse("admin:rules_rule_change", args=[rule.pk]))
    assert f'href="{try_page(rule)}"' in page.text
    assert "Try it on the past" in page.text


@pytest.mark.django_db
def test_the_form_begins_with_all_that_is_stored_and_with_the_rule(admin_client, admin_user):
    page = admin_client.get(try_page(make_priced_rule(admin_user)))
    assert "stored from 2026-03-02 12:00:00 UTC to 2026-03-02 12:00:04 UTC" in strip_tags(page.text)
    assert 'value="2026-03-02T12:00:00"' in page.text
    assert 'value="2026-03-02T12:00:04"' in page.text
    assert "kind: above" in page.text
    assert "This rule has not been tried on the past yet." in page.text


@pytest.mark.django_db
def test_what_stands_in_the_form_of_the_rule_is_tried_without_saving_it(admin_client, admin_user):
    rule = make_priced_rule(admin_user)
    page = admin_client.post(try_page(rule), written(level="1 000,5") | {"from_form": "yes"})
    assert "It is tried as it stands in the form: BTC-USD is above 1\u202f000.5." in unescape(page.text)
    assert "level: '1000.5'" in page.context["form"].initial["document"]
    wrong = admin_client.post(try_page(rule), written(level="1,005") | {"from_form": "yes"})
    assert "Level can be read in two ways: write 1.0050 or 1005." in unescape(wrong.text)
    assert "Today the rule says: BTC-USD is above 10." in unescape(wrong.text)
    assert (rule.versions.count(), BacktestRun.objects.count()) == (1, 0)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("chosen", "days"), [("", 30), ("?days=7", 7), ("?days=1", 1), ("?days=400", 30), ("?days=x", 30)]
)
def test_the_while_is_the_newest_of_so_many_days(admin_client, admin_user, chosen, days):
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "9")])
    newest = at(35 * 86_400)
    append_quotes(feed, [("BTC-USD", newest, "9")])
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    initial = admin_client.get(try_page(rule) + chosen).context["form"].initial
    assert (initial["since"], initial["until"]) == (at(35 * 86_400 + 1 - days * 86_400), at(35 * 86_400 + 1))


@pytest.mark.django_db
def test_starting_leads_to_the_page_of_the_run(admin_client, admin_user):
    rule = make_priced_rule(admin_user)
    answer = admin_client.post(try_page(rule), filled(rule))
    run = BacktestRun.objects.get()
    assert answer.url == run_page(run)
    assert (run.owner, run.rule, run.status, run.since, run.until) == (admin_user, rule, "queued", START, at(4))
    assert run.document["condition"] == {"kind": "above", "level": "10"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"document": "assets: [BTC-USD"}, "the rule, line"),
        ({"document": "7"}, "must be a mapping"),
        ({"document": "assets: [BTC-USD]\ncondition: {kind: over}"}, "condition"),
        ({"document": ""}, "This field is required."),
        ({"document": "a" * 20_001}, "at most 20000 characters"),
        ({"since": "yesterday"}, "Enter a valid date/time."),
        ({"since": "0001-01-01T00:00:00"}, "are stored from 2026-03-02 12:00:00 UTC on"),
        ({"until": "2026-03-02T12:00:00"}, "The beginning is not before the end."),
    ],
)
def test_wrong_input_is_said_at_its_place_and_starts_nothing(admin_client, admin_user, changed, text):
    rule = make_priced_rule(admin_user)
    answer = admin_client.post(try_page(rule), filled(rule, **changed))
    assert answer.status_code == 200
    assert text in unescape(answer.text)
    assert not BacktestRun.objects.exists()


@pytest.mark.django_db
def test_an_end_far_ahead_is_cut_to_the_feeds_clock(admin_client, admin_user):
    rule = make_priced_rule(admin_user)
    append_quotes(Feed.objects.get(), [], as_of=at(60))
    admin_client.post(try_page(rule), filled(rule, until="9999-12-31T23:59:59"))
    assert BacktestRun.objects.get().until == at(60)


@pytest.mark.django_db
def test_a_second_one_is_refused_with_the_reason(admin_client, admin_user):
    rule = make_priced_rule(admin_user)
    ask(rule)
    answer = admin_client.post(try_page(rule), filled(rule))
    assert "A backtest of yours is waiting or running." in answer.text
    assert BacktestRun.objects.count() == 1


@pytest.mark.django_db
def test_without_quotes_the_form_says_what_to_do(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    assert "No quotes of its assets are stored yet" in admin_client.get(try_page(rule)).text


@pytest.mark.django_db
def test_a_run_that_is_not_over_shows_how_far_it_is_and_can_be_cancelled(admin_client, admin_user):
    run = ask(make_priced_rule(admin_user))
    BacktestRun.objects.update(progress_percent=42)
    page = admin_client.get(run_page(run))
    status = reverse("admin:backtests_backtestrun_status", args=[run.pk])
    assert f'data-status="{status}"' in page.text
    assert 'aria-valuenow="42"' in page.text
    assert admin_client.get(status).json() == {"status": "queued", "percent": 42, "over": False}

    said = admin_client.post(LIST, {"action": "cancel", "_selected_action": [run.pk], "back": "page"}, follow=True)
    assert said.redirect_chain == [(run_page(run), 302)]
    assert "1 backtest cancelled." in said.text
    assert "It was cancelled, so nothing was found." in said.text
    assert BacktestRun.objects.get().status == "cancelled"


@pytest.mark.django_db
def test_one_that_is_over_cannot_be_cancelled(admin_client, admin_user):
    run = tried(make_priced_rule(admin_user))
    assert "data-status" not in admin_client.get(run_page(run)).text
    said = admin_client.post(LIST, {"action": "cancel", "_selected_action": [run.pk]}, follow=True)
    assert "Nothing was waiting or running there" in said.text
    assert BacktestRun.objects.get().status == "done"


@pytest.mark.django_db
def test_a_run_that_is_done_says_what_it_found(admin_client, admin_user):
    run = tried(make_priced_rule(admin_user, prices=("9", "11", "7", "12")))
    page = admin_client.get(run_page(run))
    assert "opened 2 alerts on 1 of 1 asset, and sent 3 messages to each channel, in 4 quotes." in page.text
    openings, sweep, states = page.context["tables"]
    assert [[*row] for row in openings.rows] == [
        [at(1), "BTC-USD is above 10: 11 at 12:00:01 UTC", at(2), "the condition is over"],
        [at(3), "BTC-USD is above 10: 12 at 12:00:03 UTC", "still open at the end", ""],
    ]
    assert ["at 10, as it was tried", "2 alerts", "3"] in sweep.rows
    assert [row[0] for row in states.rows] == ["firing", "inactive"]
    per_day, thresholds = page.context["bars"]
    assert per_day.data() == {"name": "openings", "labels": ["2026-03-02"], "values": [2]}
    assert dict(zip(thresholds.labels, thresholds.values, strict=True))["10"] == 2


@pytest.mark.django_db
def test_the_chart_marks_openings_and_resolutions_on_the_price(admin_client, admin_user):
    run = tried(make_priced_rule(admin_user, prices=("9", "11", "7", "12")))
    (chart,) = admin_client.get(run_page(run)).context["charts"]
    second = int(START.timestamp()) * 1_000
    drawn = chart.data()
    assert [point["y"] for point in drawn["low"]] == [9.0, 11.0, 7.0, 12.0]
    assert drawn["spots"] == [
        {
            "name": "opened",
            "role": "mark",
            "points": [{"x": second + 1_000, "y": 11.0}, {"x": second + 3_000, "y": 12.0}],
        },
        {"name": "resolved", "role": "calm", "points": [{"x": second + 2_000, "y": 7.0}]},
    ]


@pytest.mark.django_db
def test_the_asset_to_draw_can_be_chosen_and_begins_with_the_one_that_opened_most(admin_client, admin_user):
    feed = make_feed("BTC-USD", "ETH-USD", "XMR-USD")
    prices = {"BTC-USD": "9 9 9 9", "ETH-USD": "9 11 9 11", "XMR-USD": "9 11 11 11"}
    append_quotes(
        feed,
        [(symbol, at(second), price) for symbol, row in prices.items() for second, price in enumerate(row.split())],
    )
    run = tried(make_rule(admin_user, assets=list(prices), condition=above(10)))
    page = admin_client.get(run_page(run))
    other = admin_client.get(run_page(run), {"asset": "BTC-USD"})
    unknown = admin_client.get(run_page(run), {"asset": "DOGE-USD"})
    assert page.context["assets"] == [
        ("ETH-USD", "ETH-USD: 2 openings"),
        ("XMR-USD", "XMR-USD: 1 opening"),
        ("BTC-USD", "BTC-USD: 0 openings"),
    ]
    titles = [one.context["charts"][0].title.split()[0] for one in (page, other, unknown)]
    assert titles == ["ETH-USD", "BTC-USD", "ETH-USD"]


@pytest.mark.django_db
def test_one_that_found_nothing_says_so(admin_client, admin_user):
    run = tried(make_priced_rule(admin_user, prices=("9", "9")))
    page = admin_client.get(run_page(run))
    assert "It would have opened 0 alerts on 0 of 1 asset" in page.text
    assert "It would have opened nothing." in page.text
    assert "No day has an opening." in page.text


@pytest.mark.django_db
def test_many_openings_are_shown_in_part_and_counted(admin_client, admin_user, monkeypatch):
    monkeypatch.setattr(runs, "OPENINGS_KEPT", 3)
    monkeypatch.setattr("apps.panel.backtests.OPENINGS_SHOWN", 2)
    run = tried(make_priced_rule(admin_user, prices=["7", "11"] * 5), until=at(10))
    page = admin_client.get(run_page(run))
    assert page.context["tables"][0].title == "Openings (the first 2, and 3 more)"
    assert len(page.context["tables"][0].rows) == 2
    assert "Only the first 3 openings are kept with what they saw; all are counted." in page.text


@pytest.mark.django_db
def test_a_run_that_failed_says_why(admin_client, admin_user):
    run = ask(make_priced_rule(admin_user))
    BacktestRun.objects.update(document={"assets": ["BTC-USD"]})
    runs.run_backtest(run_id=run.pk)
    page = admin_client.get(run_page(run))
    assert "It failed: The rule cannot be read: condition" in page.text
    assert "The rule cannot be read" in admin_client.get(LIST).text


@pytest.mark.django_db
def test_a_run_whose_form_can_be_read_no_more_still_shows_what_it_found(admin_client, admin_user):
    run = tried(make_priced_rule(admin_user))
    BacktestRun.objects.update(document={})
    page = admin_client.get(run_page(run))
    assert page.status_code == 200
    assert "at 10" in [row[0] for row in page.context["tables"][1].rows]


@pytest.mark.django_db
def test_the_list_says_where_backtests_come_from(admin_client):
    assert "Open a rule and press “Try it on the past”." in admin_client.get(LIST).text


@pytest.mark.django_db
def test_the_list_costs_the_same_statements_for_1_run_and_for_9(admin_client, admin_user, django_assert_num_queries):
    rule = make_priced_rule(admin_user)
    tried(rule)
    admin_client.get(LIST)
    with CaptureQueriesContext(connection) as few:
        listed = admin_client.get(LIST)
    (run,) = listed.context["cl"].result_list
    assert (run.opened, run.get_deferred_fields()) == (1, {"result"})
    for _ in range(8):
        tried(rule)
    with django_assert_num_queries(len(few)):
        answer = admin_client.get(LIST)
    assert len(answer.context["cl"].result_list) == 9


@pytest.mark.django_db
def test_a_foreign_rule_or_run_is_the_same_as_none(client):
    ada, eve = make_operator("ada", *MAY), make_operator("eve", *MAY)
    rule = make_priced_rule(ada)
    run = ask(rule)
    client.force_login(eve)
    addresses = [
        ("admin:backtests_backtestrun_try", rule.pk, 999_999),
        ("admin:backtests_backtestrun_status", run.pk, GONE),
        ("admin:backtests_backtestrun_change", run.pk, GONE),
    ]
    for name, foreign, missing in addresses:
        theirs, nobodys = (client.get(reverse(name, args=[key])) for key in (foreign, missing))
        assert theirs.status_code == nobodys.status_code in (302, 404)
        assert theirs.text.replace(f"/{foreign}/", "") == nobodys.text.replace(f"/{missing}/", "")
    client.post(try_page(rule), filled(rule))
    client.post(LIST, {"action": "cancel", "_selected_action": [run.pk]})
    assert run.rule.name not in client.get(LIST).text
    assert list(BacktestRun.objects.values_list("pk", "status")) == [(run.pk, "queued")]


@pytest.mark.django_db
def test_a_key_that_is_none_is_not_found(admin_client):
    assert admin_client.get("/admin/rules/backtestrun/try/x/").status_code == 404
    assert admin_client.get("/admin/rules/backtestrun/x/status/").status_code == 404
    assert admin_client.get(f"/admin/rules/backtestrun/try/{'9' * 30}/").status_code == 404


@pytest.mark.django_db
def test_who_may_only_look_at_rules_starts_and_cancels_nothing(client):
    reader = make_operator("grace", "rules.view_rule")
    rule = make_priced_rule(reader)
    run = ask(rule)
    client.force_login(reader)
    assert client.get(run_page(run)).status_code == 200
    assert client.get(try_page(rule)).status_code == client.post(try_page(rule), filled(rule)).status_code == 403
    client.post(LIST, {"action": "cancel", "_selected_action": [run.pk]})
    assert BacktestRun.objects.get().status == "queued"


@pytest.mark.django_db
def test_who_may_not_look_at_rules_is_refused(client):
    grace = make_operator("grace")
    run = ask(make_priced_rule(grace))
    client.force_login(grace)
    status = reverse("admin:backtests_backtestrun_status", args=[run.pk])
    codes = [client.get(address).status_code for address in (LIST, run_page(run), try_page(run.rule), status)]
    assert codes == [403, 403, 403, 404]


@pytest.mark.django_db
def test_the_pages_carry_no_script_of_their_own(admin_client, admin_user):
    rule = make_priced_rule(admin_user)
    for address in (try_page(rule), run_page(tried(rule)), run_page(ask(rule))):
        page = admin_client.get(address).text
        inline = [part for part in page.split("<script")[1:] if "src=" not in part.split(">")[0]]
        assert all('type="application/json"' in part.split(">")[0] for part in inline)
        assert "onclick" not in page
