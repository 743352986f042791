"""Whatever stands in an address, a page answers: by what it can read of it, or with 400, and never with a fault."""

from itertools import product

import pytest
from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.urls import URLResolver

from apps.panel.kit.addresses import CheckedAddress
from fintech.urls import urlpatterns
from tests.builders import above, append_quotes, at, make_feed, make_rule
from tests.panel.test_walk import PAGES
from tests.portfolios.rows import make_portfolio

pytestmark = pytest.mark.django_db(transaction=True)

HOSTILE = [
    *("²", "99999999999999999999", "1e999999", "a" * 2_000, "99999"),
    *("9999-12-31", "9999-12-31 23:59:59-14:00", "0001-01-01 00:00:00+14:00"),
]
LOOKUPS = ["", "__exact", "__id__exact", "__year", "__isnull"]
# What pages read of their address beside fields and filters.
NAMES = [
    *(
        "p",
        "o",
        "e",
        "q",
        "all",
        "copy",
        "days",
        "asset",
        "at",
        "period",
        "effective_at",
        "ratio",
        "_to_field",
        "_popup",
    ),
    *("_changelist_filters", "before", "benchmark", "from", "to", "s", "term", "page", "app_label", "model_name"),
]


def test_every_page_of_the_admin_has_the_one_base_class():
    assert [model for model, one in admin.site._registry.items() if not isinstance(one, CheckedAddress)] == []


def test_a_list_is_filtered_by_what_can_be_read(rf, admin_user):
    """Every field and every filter by every lookup, declared or not: the very lists that the pages show."""
    for model, page in admin.site._registry.items():
        filters = [one[0] if isinstance(one, tuple) else one for one in page.list_filter]
        names = {getattr(one, "parameter_name", one) for one in filters}
        fields = {one.name for one in model._meta.concrete_fields} - names
        tried = [(name + lookup, value) for name, lookup, value in product(sorted(names), LOOKUPS, HOSTILE)]
        tried += [(f"{name}__{lookup}", "99999") for name, lookup in product(sorted(fields), ("year", "gte"))]
        tried += [(name, value) for name, value in product(("p", "o", "q", "all"), HOSTILE)]
        refused = 0
        for name, value in tried:
            request = rf.get("/", {name: value})
            request.user = admin_user
            try:
                list(page.get_changelist_instance(request).result_list)
            except (IncorrectLookupParameters, DisallowedModelAdminLookup):
                refused += 1
        assert 0 < refused < len(tried), model


def test_what_a_form_begins_with_is_what_its_fields_can_read(admin_client, admin_user):
    tried = 0
    for page in PAGES:
        if page.name.endswith("_add") and (begun := admin_client.get(page.address())).status_code == 200:
            names = begun.context["adminform"].form.fields
            for value in HOSTILE:
                answer = admin_client.get(page.address(), dict.fromkeys(names, value))
                assert answer.status_code == 200, (page, value)
                tried += 1
    assert tried >= 8 * len(HOSTILE)


def test_a_link_fills_a_form_with_what_it_says(admin_client):
    form = (
        admin_client.get(
            "/admin/notify/silence/add/",
            {"comment": "Works on it", "starts_at": "2026-03-02 12:00", "severity": "warning"},
        )
        .context["adminform"]
        .form
    )

    assert {name: form.initial[name] for name in ("comment", "severity", "starts_at")} == {
        "comment": "Works on it",
        "severity": "warning",
        "starts_at": at(0),
    }


@pytest.mark.parametrize(
    "address",
    [
        "/admin/alerts/alert/?opened_at__year=99999",
        "/admin/alerts/alert/?asset=99999999999999999999",
        "/admin/rules/rule/add/?copy=²",
        "/admin/notify/silence/add/?starts_at=9999-12-31",
        "/admin/api/apitoken/add/?expires_at=²",
        "/admin/api/apitoken/?revoked_at__year=99999",
    ],
)
def test_what_failed_once(admin_client, address):
    assert admin_client.get(address, follow=True).status_code in (200, 400)


def test_no_page_fails_by_what_its_address_says(admin_client, admin_user):
    """Pages of rows that there are, the site's own among them: one request for each page and value, with all names."""
    feed = make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(0), "101")])
    portfolio = make_portfolio(admin_user)
    keys = {type(one): one.pk for one in (feed, rule, portfolio, feed.assets.get())}
    addresses = [
        page.address(key)
        for page in PAGES
        if page.row_model is not None and (key := keys.get(page.row_model)) and not page.name.endswith("_delete")
    ]
    addresses += [page.address() for page in PAGES if page.model is None]
    own = [str(one.pattern) for one in urlpatterns if not isinstance(one, URLResolver)]
    addresses += [
        "/" + one.replace("<int:pk>", str(portfolio.pk)) for one in own if "<" not in one.replace("<int:pk>", "")
    ]
    wrong = []
    for address, value in product(dict.fromkeys(addresses), HOSTILE):
        if address == "/accounts/logout/":
            continue
        answer = admin_client.get(address, dict.fromkeys(NAMES, value))
        if answer.status_code >= 500 and address not in ("/status", "/readyz"):
            wrong.append((address, value))
    assert wrong == []
