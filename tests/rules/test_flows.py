"""The value of a portfolio moves by deposits too: rules that compare it with its past are refused on every way in."""

import json
from fractions import Fraction

import pytest
from django.urls import reverse

from apps.market.derived.making import change_series
from apps.market.derived.series import SeriesInvalid, read_written
from apps.market.models import Asset
from apps.portfolios.domain.series import SeriesKind
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule
from apps.setup.loading import SetupInvalid
from tests.api.asking import URL
from tests.builders import TRACE, make_member, make_rule
from tests.market.derived_rows import make_series
from tests.panel.forms import written
from tests.portfolios.rows import bought, make_portfolio, record
from tests.portfolios.series_rows import at, make_legs, series_of
from tests.setup.test_series import load

pytestmark = pytest.mark.django_db
VALUE, INDEX, DRIFT = SeriesKind
WHY = "does not apply to the value of a portfolio, since a deposit is no gain: use its performance index"
COMPARING = [
    {"kind": "rises", "percent": "1", "window": "1h"},
    {"kind": "falls", "percent": "1", "window": "1h"},
    {"kind": "above_average", "percent": "1", "window": "1h"},
    {"kind": "below_average", "by": "10", "window": "1h"},
    {"kind": "zscore", "n": "3", "window": "1h"},
    {"any": [{"kind": "below", "level": "5"}, {"not": {"kind": "zscore", "n": "3", "window": "1h"}}]},
]
OTHERS = [
    {"kind": "above", "level": "5"},
    {"kind": "below", "level": "-5"},
    {"kind": "outside", "low": "1", "high": "2"},
    {"kind": "stale", "after": "1h"},
    {"kind": "unchanged", "after": "1h"},
]


@pytest.fixture
def ada(client):
    ada = make_member("ada", is_staff=True)
    client.force_login(ada)
    return ada


@pytest.fixture
def savings(ada):
    portfolio = make_portfolio(ada)
    record(portfolio, bought(make_legs().assets.get(symbol="ACME"), "2024-03-03", amount="100"))
    series_of(portfolio, VALUE)
    return portfolio


def page_of(portfolio):
    return reverse("portfolio_series", args=[portfolio.pk])


@pytest.mark.parametrize("condition", COMPARING)
def test_what_compares_a_value_with_its_past_is_refused(ada, savings, condition):
    with pytest.raises(RuleInvalid) as refusal:
        make_rule(ada, assets=["VALUE"], condition=condition)
    assert (refusal.value.path, str(refusal.value).endswith(f"{WHY}, at {page_of(savings)}")) == ("assets[0]", True)
    assert not Rule.objects.exists()


def test_everything_else_is_taken_and_the_index_takes_all(ada, savings):
    for number, condition in enumerate(OTHERS):
        make_rule(ada, name=f"value {number}", assets=["VALUE"], condition=condition)
    series_of(savings, INDEX)
    for number, condition in enumerate(COMPARING):
        make_rule(ada, name=f"index {number}", assets=["INDEX"], condition=condition)
    series_of(savings, DRIFT, target={None: Fraction(1)})
    make_rule(ada, name="drift", assets=["DRIFT"], condition={"kind": "zscore", "n": "3", "window": "1h"})


def test_what_is_made_of_a_value_is_moved_by_flows_too(ada, savings):
    make_series("TWICE", "basket", {"asset": "VALUE", "weight": "2"}, owner=ada)
    make_series("OVER", "ratio", "BOLT", "TWICE", owner=ada)
    for symbol in ("TWICE", "OVER"):
        with pytest.raises(RuleInvalid) as refusal:
            make_rule(ada, assets=[symbol], condition=COMPARING[0])
        assert str(refusal.value).endswith(f"{WHY}, at {page_of(savings)}")


@pytest.fixture
def gap(ada, savings):
    """A spread of two series of the portfolio that no deposit moves, with a rule on it that compares it."""
    series_of(savings, INDEX)
    series_of(savings, DRIFT, target={None: Fraction(1)})
    gap = make_series("GAP", "spread", "INDEX", "DRIFT", owner=ada)
    make_rule(ada, name="on the gap", assets=["GAP"], condition=COMPARING[4])
    return gap


def change(gap, *legs):
    written = read_written({"kind": "spread", "legs": list(legs)})
    return change_series(asset=gap, written=written, now=at(0), trace_id=TRACE)


def test_a_series_that_no_deposit_moves_is_not_changed_to_one(ada, savings, gap):
    """Its rules would go on comparing it with its past."""
    before = gap.series.document
    with pytest.raises(SeriesInvalid, match="deposits would move it, which they do not now; make a new series instead"):
        change(gap, "VALUE", "DRIFT")
    assert Asset.every.get(pk=gap.pk).series.document == before
    assert change(gap, "DRIFT", "INDEX")


def test_a_series_that_deposits_have_moved_stays_one(ada, savings, gap):
    """Its past has them."""
    moved = make_series("MOVED", "spread", "VALUE", "DRIFT", owner=ada)
    assert change(moved, "INDEX", "DRIFT")
    assert Asset.every.get(pk=moved.pk).has_flows
    with pytest.raises(RuleInvalid, match=WHY):
        make_rule(ada, assets=["MOVED"], condition=COMPARING[4])
    assert change(Asset.every.get(pk=moved.pk), "VALUE", "DRIFT")


def test_the_form_names_it_beside_the_assets_with_a_link_to_the_index(client, ada, savings):
    value = Asset.every.get(symbol="VALUE")
    fields = {"symbols": [value.pk], "kind": "rises", "percent": "1", "window": "1h"}
    answer = client.post(reverse("admin:rules_rule_add"), form(**fields))
    assert f'{WHY}, at <a href="{page_of(savings)}">{page_of(savings)}</a>.' in answer.text
    (error,) = json.loads(client.post(reverse("admin:rules_rule_preview"), form(**fields)).content)["errors"]
    assert (error["field"], error["message"].endswith(f"{WHY}, at {page_of(savings)}.")) == ("symbols", True)
    by_hand = {"symbols": [value.pk], "kind": "combined", "written": json.dumps(COMPARING[-1])}
    assert WHY in client.post(reverse("admin:rules_rule_add"), form(**by_hand)).text
    assert not Rule.objects.exists()


def form(**fields):
    """Return what a browser posts; the form's own asset is not here."""
    Asset.objects.get_or_create(symbol="BTC-USD")
    return written(**fields)


def test_a_setup_file_is_refused(tmp_path, ada, savings):
    rule = f"rules: [{{name: R, assets: [VALUE], condition: {json.dumps(COMPARING[0])}}}]\n"
    with pytest.raises(SetupInvalid, match=WHY):
        load(tmp_path, rule, ada)


def test_the_api_refuses_it(client, ada, savings):
    document = {"assets": ["VALUE"], "condition": COMPARING[0]}
    query = """mutation ($document: JSON!) { createRule(idempotencyKey: "k", name: "r", document: $document)
      { rule { id } errors { field message } } }"""
    asked = {"query": query, "variables": {"document": document}}
    payload = client.post(URL, asked, content_type="application/json").json()["data"]["createRule"]
    assert payload["rule"] is None
    assert WHY in payload["errors"][0]["message"]
