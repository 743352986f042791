"""An address of every page that there is, of the site and of the admin, filled in with the rows of one person."""

import re

from allauth.socialaccount.models import SocialAccount
from django.contrib import admin
from django.contrib.auth.tokens import default_token_generator
from django.test import RequestFactory
from django.urls import URLResolver
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from apps.backtests import services as backtests
from apps.market.models import Asset
from apps.market.queries import every_asset
from apps.notify.models import Message
from apps.notify.services import action_links
from apps.portfolios.models import Portfolio, Transaction
from apps.sources.services import begin_or_resume
from fintech.urls import urlpatterns
from tests.builders import START, at
from tests.ownership.world import make_person
from tests.panel.test_walk import PAGES, make_portfolio_of

_PLACES = re.compile(r"<(?:\w+:)?(\w+)>")


def make_world(name="ada"):
    """Return a superuser who owns something of every kind, beside what is everyone's."""
    person = make_person(name, market="market")
    person.is_superuser = True
    person.save()
    person.backtests.all().delete()
    run = backtests.request_backtest(
        owner=person, rule=person.rules.order_by("pk")[0], since=START, until=at(2), now=at(3)
    )
    backtests.run_backtest(run_id=run.pk)
    asset = Asset.objects.get(symbol="MARKET-0")
    begin_or_resume(asset_id=asset.pk, provider="coincap", since=at(-60), until=at(0), now=at(1))
    make_portfolio_of(person, name, asset)
    return person


def addresses_of(person):
    """Yield (name, address) of every page."""
    values = _values_of(person)
    for one in urlpatterns:
        if not isinstance(one, URLResolver):
            name, route = one.name or "", str(one.pattern)
            yield name or route, "/" + _PLACES.sub(lambda found, name=name: _value(values, name, found[1]), route)
    for page in PAGES:
        yield repr(page), page.address("" if page.row_model is None else _key_of(page.row_model, person))


def _key_of(model, person):
    """Return the key of the last row of those that the admin shows to the person."""
    request = RequestFactory().get("/")
    request.user = person
    return admin.site.get_model_admin(model).get_queryset(request).order_by("-pk")[0].pk


def _value(values, name, place):
    return str(values.get(f"{name} {place}", values.get(place)))


def _values_of(person):
    """Return what stands in the places of addresses, by "name of the address place", or by the place alone."""
    owned = {one.symbol.partition("-")[0]: one.external_id for one in every_asset().filter(owner=person)}
    message = Message.objects.filter(channel__owner=person).latest("created_at")
    return {
        "action token": action_links(message_id=message.pk)[0].url.rpartition("/")[2],
        "pk": Portfolio.objects.get(owner=person, name="Sávings/1").pk,
        "identity_remove pk": SocialAccount.objects.get(user=person).pk,
        "asset": Asset.objects.get(symbol="ACME-MARKET").pk,
        "row": Transaction.objects.filter(portfolio__owner=person, portfolio__name="Sávings/1", kind="buy")[0].pk,
        "name": "MARKET-0",
        "portfolio_one_series name": owned["VALUE"],
        "portfolio_parts name": "income",
        "manual key": owned["HOUSE"],
        "manual_delete key": owned["HOUSE"],
        "key": owned["TWICE"],
        "feed": "x",
        "uidb64": urlsafe_base64_encode(force_bytes(person.pk)),
        "token": default_token_generator.make_token(person),
    }
