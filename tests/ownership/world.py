"""A person who owns something of every kind."""

from datetime import timedelta

from allauth.socialaccount.models import SocialAccount
from django.utils import timezone

from apps.accounts.second_factor import turn_on
from apps.api.tokens.services import create_token
from apps.market.domain import RawQuote
from apps.market.models import Asset
from apps.market.queries import every_feed
from apps.market.services import create_manual_asset, watch
from apps.notify.services import create_channel, create_silence, set_channels
from apps.pipeline.flow import evaluate_pending, roll_up
from apps.pipeline.manual_prices import store_prices
from apps.portfolios.domain.series import SeriesKind
from apps.portfolios.services import create_series
from apps.rules.models import Rule
from tests.builders import START, above, at, make_backtest, make_member, make_notified_alerts, make_rule
from tests.market.derived_rows import make_series
from tests.portfolios.rows import bought, columns, make_portfolio, record
from tests.totp import TOTP_SECRET

SECRET = "whsec_" + "c2VjcmV0" * 6


def make_person(name, *, market=None):
    """Return a member of Owner who owns something of every kind, an open alert too. market: the name of the feed of the
    installation, and of its asset, that their rules are on."""
    person = make_member(name, is_staff=True)
    [alert] = make_notified_alerts(person, 1, name=market or name)
    rule, asset = alert.rule, alert.asset
    hook = create_channel(
        owner=person, name="=Hook", kind="webhook", config={"url": "https://example.org/hook", "secret": SECRET}
    )
    set_channels(rule=rule, channels=[*(link.channel for link in rule.rule_channels.all()), hook])
    make_rule(person, name=f"off of {name}", assets=[asset.symbol], condition=above(12), enabled=False)
    make_rule(person, name=f"“{name}”: 10 %", assets=[asset.symbol], condition=above(99), pending="5m")
    now = timezone.now()
    create_silence(
        author=person, owner=person, rule=rule, starts_at=now, ends_at=now + timedelta(days=1), comment=f"of {name}"
    )
    create_silence(author=person, owner=person, alert=alert, starts_at=now, comment=f"alert of {name}")
    create_token(owner=person, name=f"laptop of {name}", scope="write")
    make_backtest(person, rule)
    turn_on(user=person, secret=TOTP_SECRET, step=0)
    SocialAccount.objects.create(user=person, provider="https://id.example.org", uid=f"{name}-at-provider")
    watch(user=person, asset=asset)
    house = create_manual_asset(owner_id=person.pk, symbol=f"HOUSE-{name.upper()}", currency="EUR")
    store_prices(house, [RawQuote(house.symbol, "1000", START), RawQuote(house.symbol, "1100.5", at(60))], now=at(61))
    savings, other = make_portfolio(person, "Sávings/1", tracks_cash=True), make_portfolio(person, "Other")
    stocks = Asset.objects.create(symbol=f"ACME-{market or name}".upper(), currency="EUR")
    record(
        savings,
        columns("2024-01-01", "deposit", amount="5000", currency="EUR", notes="=1+1"),
        bought(stocks, fee="1.5"),
        bought(house, day="2024-01-03", quantity="1"),
        columns("2024-02-01", "transfer", asset=stocks, quantity="1", to_portfolio=other),
    )
    create_series(
        portfolio=savings, kind=SeriesKind.VALUE, symbol=f"VALUE-{name.upper()}", every_seconds=60, target={}, now=now
    )
    twice = make_series(
        f"TWICE-{name.upper()}", "basket", {"asset": asset.symbol, "weight": "2"}, owner=person, now=at(2)
    )
    make_rule(person, name=f"own series of {name}", assets=[twice.symbol], condition=above(1_000))
    for feed_id in sorted({asset.feed_id, *every_feed().filter(owner=person).values_list("pk", flat=True)}):
        evaluate_pending(feed_id=feed_id)
    roll_up()
    return person


def names_of(person):
    """Return the names of the rules of a person that are not deleted."""
    return set(Rule.objects.filter(owner=person, deleted_at=None).values_list("name", flat=True))
