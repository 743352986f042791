"""Nobody sees another owner's rows in the admin, by any page that there is.

The pages are those of the admin's own list of addresses, and the models those that are registered. So a page that is
added is walked too, and a model that is added fails here until it is said whose its rows are.
"""

import json
import re
from datetime import timedelta
from decimal import Decimal
from itertools import product

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core import serializers
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.urls import URLPattern, URLResolver
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.api.tokens.models import ApiToken
from apps.backtests.models import BacktestRun
from apps.market.queries import feeds_seen_by
from apps.notify.models import Notification
from apps.notify.services import create_channel, create_silence, set_channels
from apps.pipeline.flow import evaluate_pending
from apps.portfolios.importing import keep_file
from apps.portfolios.models import PriceRequest
from apps.portfolios.reconciling import keep_positions
from apps.portfolios.services import correct_transaction
from apps.sources.services import begin_or_resume
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_owner, make_rule, notify_all
from tests.market.derived_rows import make_series
from tests.portfolios.rows import bought, make_portfolio, record

# Registered models whose rows have an owner -> the way there.
OWNED = {
    "alerts.Alert": "rule__owner",
    "api.ApiToken": "owner",
    "notify.Channel": "owner",
    "notify.Message": "channel__owner",
    "notify.Silence": "owner",
    "backtests.BacktestRun": "owner",
    "market.DerivedSeries": "asset__owner",
    "portfolios.ImportFile": "owner",
    "portfolios.Portfolio": "owner",
    "portfolios.Reconciliation": "portfolio__owner",
    "portfolios.Transaction": "portfolio__owner",
    "rules.Rule": "owner",
    "rules.Transition": "rule__owner",
}
# Those whose rows are everyone's who has the permission.
SHARED = {
    *("auth.Group", "auth.User", "market.Asset", "market.FeedEntry", "market.Feed", "sources.Backfill"),
    "portfolios.PriceRequest",
}
# The admin's pages that belong to no model.
SITE_PAGES = {
    *("index", "login", "password_change", "password_change_done", "jsi18n", "search"),
    *("autocomplete", "view_on_site", "app_list", "catch_all"),
}
OPEN_TO_ALL_STAFF = {"index", "password_change", "password_change_done", "jsi18n", "search"}

# Stands in the names of Ada's rows, and in the words of her alert.
SECRETS = ("ADAS", "10.4242")
NOWHERE = {models.UUIDField: "00000000-0000-4000-8000-000000000000"}
NO_NUMBER = "999999937"
CSV = b"account,date,symbol,currency,price,quantity,type\nNAME,2024-01-02,NAME,EUR,1,1,BUY\n"


def _model_of(place, model):
    """Return the model whose key stands in a place of an address: `rule_id` is a rule's, `object_id` the page's own."""
    by_name = {f"{one._meta.model_name}_id": one for one in admin.site._registry}
    return model if place in ("object_id", "id", "pk") else by_name.get(place)


class Page:
    """One address of the admin: of a model, or of the site. row_model: whose key it has a place for, or None."""

    def __init__(self, pattern, prefix, model):
        route = str(pattern.pattern)
        self.model = model
        self.places = re.findall(r"<(?:\w+:)?(\w+)>", route) if model is not None else []
        self.row_model = _model_of(self.places[0], model) if self.places else None
        self._address = "/admin/" + prefix + route
        self.name = pattern.name or ("catch_all" if "url" in route else "old_address")

    def __repr__(self):
        return f"{self.model._meta.label if self.model else 'site'}:{self.name}"

    def address(self, key=""):
        """Return the address with this key, and something in every other place."""
        address = self._address.replace("<int:content_type_id>/<path:object_id>", "1/1")
        if self.row_model is not None:
            address = re.sub(r"<[^>]*>", str(key), address)
        address = re.sub(r"\(\?P<app_label>[^)]*\)", "market", address)
        address = re.sub(r"\(\?P<url>[^)]*\)", "nothing/at/all", address)
        return re.sub(r"<[^>]*>", "x", address).replace("^", "").replace("$", "").replace("\\Z", "")


def walk(patterns, prefix="", model=None):
    """Yield every page below these patterns."""
    by_prefix = {f"{one._meta.app_label}/{one._meta.model_name}/": one for one in admin.site._registry}
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            route = str(pattern.pattern)
            yield from walk(pattern.url_patterns, prefix + route, by_prefix.get(route, model))
        elif isinstance(pattern, URLPattern):
            yield Page(pattern, prefix, model)


# (Who signs out is let into nothing more; that page is tested with the other accounts' pages.)
PAGES = [page for page in walk(admin.site.urls[0]) if page.name != "logout"]
REGISTERED = {model._meta.label: model for model in admin.site._registry}
OWNED_HERE = sorted(REGISTERED.keys() & OWNED.keys())


def rows_of(owner, label):
    """Return the owner's rows of one model."""
    return REGISTERED[label]._default_manager.filter(**{OWNED[label]: owner})


def own_keys(owner, page, *, limit=20):
    """Return the keys with which the owner would open a page: of their own rows, or of rows that are everyone's."""
    if page.row_model is None:
        return [""]
    label = page.row_model._meta.label
    rows = rows_of(owner, label) if label in OWNED else page.row_model._default_manager.all()
    return list(rows.order_by("pk").values_list("pk", flat=True)[:limit])


def missing_key(model):
    """Return a key that no row has."""
    return NOWHERE.get(type(model._meta.pk), NO_NUMBER)


def add_alerting_rule(owner, name, level):
    """Have a rule of the owner on BTC-USD that notifies a channel of theirs."""
    channel = create_channel(owner=owner, name=f"{name} channel", kind="inbox", config={})
    rule = make_rule(owner, name=f"{name} rule", assets=["BTC-USD"], condition=above(level))
    set_channels(rule=rule, channels=[channel])
    ApiToken.objects.create(owner=owner, name=f"{name} token", digest=name.ljust(64, "0"))
    document = rule.versions.get().document
    times = {"since": at(0), "until": at(1), "requested_at": at(2)}
    BacktestRun.objects.create(owner=owner, rule=rule, document=document, **times)


def make_portfolio_of(owner, name, asset):
    """Have a portfolio of the owner's with a purchase that was corrected."""
    portfolio = make_portfolio(owner, f"{name} portfolio")
    [row] = record(portfolio, bought(asset, notes=f"{name} purchase"))
    correct_transaction(row=row, columns={"notes": f"{name} note"}, by=owner, now=timezone.now())
    PriceRequest.objects.create(owner=owner, symbol="XX1", since=at(0).date(), asked_at=at(0))
    stated = {f"{name} ASSET": Decimal(1)}
    keep_file(owner=owner, name=f"{name} import", content=CSV.replace(b"NAME", name.encode()), now=timezone.now())
    keep_positions(portfolio=portfolio, name=f"{name} file", day=at(0).date(), stated=stated, now=timezone.now())


def make_series_of(owner, name):
    """Have a derived series of the owner's, without a log entry of quotes that would wait to be evaluated."""
    make_series(f"{name}-BASKET", "basket", {"asset": "BTC-USD", "weight": "2"}, owner=owner, now=at(2))
    for feed in feeds_seen_by(owner):
        evaluate_pending(feed_id=feed.pk)


def silence_all(owner, name):
    """Have a silence of the owner's in force, which has deferred a notification."""
    now = timezone.now()
    match = {"rule": owner.rules.get(), "comment": f"{name} silence"}
    silence = create_silence(author=owner, owner=owner, starts_at=now, ends_at=now + timedelta(days=1), **match)
    Notification.objects.filter(channel__owner=owner).update(silence=silence, deferred_by="silence")


@pytest.fixture(scope="module")
def all_rows(module_rows):
    """Ada and Eve, each with a row of every kind: rules, channels, open alerts, messages. Made once: each test undoes
    what it changed."""
    feed = make_feed("BTC-USD", name="market")
    ada, eve = make_owner("ada"), make_owner("eve")
    add_alerting_rule(ada, "ADAS", "10.4242")
    add_alerting_rule(eve, "EVES", "10.5")
    append_quotes(feed, [("BTC-USD", at(0), "9")])
    append_quotes(feed, [("BTC-USD", at(1), "11")])
    begin_or_resume(asset_id=feed.assets.get().pk, provider="coincap", since=at(-60), until=at(0), now=at(1))
    evaluate_pending(feed_id=feed.pk)
    notify_all()
    for owner, name in ((ada, "ADAS"), (eve, "EVES")):
        silence_all(owner, name)
        make_portfolio_of(owner, name, feed.assets.get())
        make_series_of(owner, name)


@pytest.fixture
def ada(all_rows, db):
    return User.objects.get(username="ada")


@pytest.fixture(params=["owner", "everything but superuser"])
def eve(request, ada):
    """Another owner: as the group lets her, and with every permission that there is."""
    eve = User.objects.get(username="eve")
    eve.is_staff = True
    eve.save()
    eve.groups.add(Group.objects.get(name="Owner"))
    eve.user_permissions.set(Permission.objects.all() if request.param != "owner" else [])
    return eve


@pytest.fixture
def eves(client, eve):
    """Her browser."""
    client.force_login(eve)
    return client


def state_of(owner):
    """Return all rows of the owner, as text."""
    return {label: serializers.serialize("json", rows_of(owner, label).order_by("pk")) for label in OWNED_HERE}


def said(answer, *keys):
    """Return what an answer says, without these keys, and without what differs each time. Of two answers that are
    compared, neither has the key that was asked for in the other: rows of other models may have the same number."""
    text = answer.content.decode()
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", text)
    text = re.sub(r"\d\d:\d\d:\d\d|\d+ s ago", "", text)
    address = str(answer.redirect_chain)
    places = "|".join(label.partition(".")[2].lower() for label in OWNED)
    for key in keys:
        for around in (r"(?P<before>/({})/){}(?P<after>/)", r"(?P<before>%2F({})%2F){}(?P<after>%2F)"):
            text = re.sub(around.format(places, re.escape(str(key))), r"\g<before>KEY\g<after>", text)
        text = text.replace(f"“{key}”", "“KEY”")
        address = address.replace(f"/{key}/", "/KEY/")
    return answer.status_code, address, text


def listed(answer):
    """Return the keys of the rows that a list has; none where the answer is no list."""
    found = (answer.context or {}).get("cl")
    return {row.pk for row in found.queryset} if found else set()


def without(answer, lookup, *keys):
    """Return what the answer to a filter or an action says, without these keys, which stand in links and fields."""
    status, address, text = said(answer, *keys)
    value = f"({'|'.join(re.escape(str(key)) for key in keys)})"
    return status, address, re.sub(rf'({lookup}(?:=|"[^>]* value="|%3D)){value}(?!\w)', r"\1KEY", text)


def ask(client, method, address, **data):
    return getattr(client, method)(address, data, follow=True)


def test_every_registered_model_is_said_to_be_owned_or_shared():
    assert REGISTERED.keys() - OWNED.keys() - SHARED == set()


def test_every_page_of_the_site_itself_is_known():
    assert {page.name for page in PAGES if page.model is None} <= SITE_PAGES


def test_every_page_has_a_place_for_one_key_and_it_is_known_whose():
    assert [page for page in PAGES if len(page.places) > 1 or (page.places and page.row_model is None)] == []


def test_the_walk_finds_the_pages_that_there_surely_are():
    found = {repr(page) for page in PAGES}
    assert {"alerts.Alert:alerts_alert_change", "auth.User:auth_user_password_change", "site:autocomplete"} <= found
    assert len(PAGES) > 60
    assert [page for page in PAGES if "<" in page.address("1") or "(" in page.address("1")] == []


@pytest.mark.parametrize("label", OWNED_HERE)
def test_a_row_of_another_owner_and_no_row_at_all_are_the_same_to_every_page(eves, ada, label):
    model = REGISTERED[label]
    foreign, missing = rows_of(ada, label).order_by("pk")[0].pk, missing_key(model)
    before = state_of(ada)
    different = []
    for page, method in product([page for page in PAGES if page.row_model is model], ["get", "post"]):
        theirs = said(ask(eves, method, page.address(foreign), post="yes"), foreign, missing)
        nobodys = said(ask(eves, method, page.address(missing), post="yes"), foreign, missing)
        different += [(page, method)] if theirs != nobodys else []
    assert different == []
    assert state_of(ada) == before


@pytest.mark.parametrize("label", OWNED_HERE)
def test_lists_hold_only_own_rows_however_they_are_asked(eves, eve, ada, label):
    model = REGISTERED[label]
    address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    hers = set(rows_of(eve, label).values_list("pk", flat=True))
    assert listed(ask(eves, "get", address)) == hers != set()
    for query in ({"q": "ADAS"}, {"q": "10.4242"}, {"all": ""}, {"o": "-1"}, {"deleted": "yes"}):
        assert listed(ask(eves, "get", address, **query)) <= hers


@pytest.mark.parametrize("label", sorted(REGISTERED))
def test_a_filter_by_a_foreign_row_says_what_one_by_no_row_says(eves, ada, label):
    model = REGISTERED[label]
    address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    for field in model._meta.get_fields():
        if field.is_relation and field.related_model and field.related_model._meta.label in OWNED_HERE:
            foreign, missing = (
                rows_of(ada, field.related_model._meta.label).order_by("pk")[0].pk,
                missing_key(field.related_model),
            )
            for lookup in (f"{field.name}__id__exact", f"{field.name}__pk", field.name):
                theirs = ask(eves, "get", address, **{lookup: foreign})
                nobodys = ask(eves, "get", address, **{lookup: missing})
                keys = foreign, missing
                assert without(theirs, lookup, *keys) == without(nobodys, lookup, *keys), (label, lookup)


@pytest.mark.parametrize("query", ["rule_states__rule__name", "alerts__words__contains", "alerts__rule__name"])
def test_shared_rows_cannot_be_searched_by_what_others_own(eves, eve, query):
    eve.user_permissions.add(*Permission.objects.filter(content_type__app_label="market"))
    assert eves.get("/admin/market/asset/", {query: "ADAS rule"}).status_code == 400


def test_an_operator_sees_nothing_of_any_owner_on_any_page_but_what_is_about_the_installation(client, ada):
    alert = Alert.objects.create(kind="system", severity="info", opened_at=at(0), summary="disk is full", evidence={})
    AlertEvent.objects.create(alert=alert, kind="opened", at=at(0))
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    client.force_login(grace)
    shown, pages_about_it = [], set()
    for page in PAGES:
        rows = page.row_model._default_manager.order_by("pk").values_list("pk", flat=True) if page.row_model else [""]
        for key in rows[:20]:
            text = ask(client, "get", page.address(key)).content.decode()
            shown += [(page, key, secret) for secret in ("ADAS", "EVES") if secret in text]
            pages_about_it |= {page.name} if "disk is full" in text else set()
    assert shown == []
    assert pages_about_it >= {"index", "alerts_alert_changelist", "alerts_alert_change"}
    assert listed(ask(client, "get", "/admin/alerts/alert/")) == {alert.pk}


def test_no_page_shows_anything_of_another_owner_and_no_form_offers_a_row_of_theirs(eves, eve, ada):
    shown, offered = [], []
    forms = 0
    for page in PAGES:
        for key in own_keys(eve, page):
            answer = ask(eves, "get", page.address(key))
            text = answer.content.decode()
            shown += [(page, key, secret) for secret in SECRETS if secret in text]
            form = (answer.context or {}).get("adminform")
            for name, field in form.form.fields.items() if form else ():
                forms += 1
                label = field.queryset.model._meta.label if hasattr(field, "queryset") else None
                if label in OWNED_HERE and field.queryset.filter(**{OWNED[label]: ada}).exists():
                    offered.append((page, name))
                if label == "auth.User" and page.model is not User and ada in field.queryset:
                    offered.append((page, name))
    assert shown == []
    assert forms > 0
    assert offered == []


def test_autocomplete_offers_nothing_of_another_owner(eves):
    offered = []
    for model, page in admin.site._registry.items():
        inlines = [(inline.model, inline) for inline in page.inlines]
        for holder, one in [(model, page), *inlines]:
            for name in one.autocomplete_fields:
                holder_meta = holder._meta
                answer = eves.get(
                    "/admin/autocomplete/",
                    {"app_label": holder_meta.app_label, "model_name": holder_meta.model_name, "field_name": name},
                )
                offered += [(holder, name)] if any(secret in answer.text for secret in SECRETS) else []
    assert offered == []


@pytest.mark.parametrize("label", OWNED_HERE)
def test_what_is_made_of_any_foreign_row_is_refused_like_no_row(eves, label):
    """Autocomplete answers for a field of a model, whether or not a page uses it."""
    model = REGISTERED[label]
    for field in model._meta.get_fields():
        if isinstance(field, models.ForeignKey):
            query = {
                "app_label": model._meta.app_label,
                "model_name": model._meta.model_name,
                "field_name": field.name,
                "term": "ADAS",
            }
            answer = eves.get("/admin/autocomplete/", query)
            found = json.loads(answer.content)["results"] if answer.status_code == 200 else []
            assert [one for one in found if "ADAS" in one["text"]] == []


@pytest.mark.parametrize("label", OWNED_HERE)
@pytest.mark.parametrize("across", ["0", "1"])
def test_actions_do_nothing_to_another_owners_rows(eves, eve, ada, rf, label, across):
    model = REGISTERED[label]
    request = rf.get("/")
    request.user = eve
    address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    foreign, missing = rows_of(ada, label).order_by("pk")[0].pk, missing_key(model)
    before = state_of(ada)
    for action in admin.site._registry[model].get_actions(request):
        data = {"action": action, "select_across": across, "post": "yes"}
        if across == "0":
            theirs = ask(eves, "post", address, **data, _selected_action=[foreign])
            nobodys = ask(eves, "post", address, **data, _selected_action=[missing])
            here = "_selected_action", foreign, missing
            assert without(theirs, *here) == without(nobodys, *here), action
        else:
            ask(eves, "post", address, **data, _selected_action=[foreign])
    assert state_of(ada) == before


@pytest.mark.parametrize("method", ["get", "post"])
def test_staff_without_permissions_is_let_into_no_page_of_a_model_not_even_of_own_rows(client, ada, method):
    ada.is_staff = True
    ada.save()
    client.force_login(ada)
    before = state_of(ada)
    let_in = []
    for page in PAGES:
        [key] = own_keys(ada, page, limit=1)
        answer = ask(client, method, page.address(key), post="yes")
        if page.model is not None or page.name not in OPEN_TO_ALL_STAFF | {"login"}:
            let_in += [(page, answer.status_code)] if answer.status_code not in (403, 404, 405) else []
    assert let_in == []
    assert state_of(ada) == before


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("who", ["nobody", "no staff"])
def test_who_is_no_staff_is_sent_to_sign_in_from_every_page(client, ada, method, who):
    if who == "no staff":
        eve = User.objects.get(username="eve")
        eve.user_permissions.set(Permission.objects.all())
        client.force_login(eve)
    let_in = []
    for page in [one for one in PAGES if one.name != "login"]:
        [key] = own_keys(ada, page, limit=1)
        answer = getattr(client, method)(page.address(key))
        let_in += [page] if answer.status_code != 302 or "/admin/login/?next=" not in answer["Location"] else []
    assert let_in == []


def test_every_owned_model_has_the_way_to_its_owner():
    for label in OWNED_HERE:
        with_owner = REGISTERED[label]._meta
        try:
            assert with_owner.get_field(OWNED[label].partition("__")[0]) is not None
        except FieldDoesNotExist:
            pytest.fail(f"{label} has no {OWNED[label]}")
