"""Assets and feeds of one owner: who sees them, and what never does."""

import ast
import json
import logging
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from apps.alerts.models import Alert
from apps.alerts.owned import delete_series, delete_series_of
from apps.market import queries
from apps.market import services as market
from apps.market.models import Asset, Candle, Feed, FeedEntry, Quote
from apps.market.queries.assets import AssetIndex
from apps.market.services import AssetStays
from apps.owned_ids import external_id_of, is_owned, label_of, new_owned_id, owned_id_of
from apps.pipeline import flow
from apps.rules.engine.written import RuleInvalid
from fintech.logs import json_lines
from tests.builders import START, above, append_owned, at, make_feed, make_operator, make_owned, make_owner, make_rule

pytestmark = pytest.mark.django_db
APPS = Path(__file__).resolve().parents[2] / "apps"
# Doors that show people rows: they ask by the reader.
DOORS = ("api", "panel", "setup", "site")


@pytest.fixture
def ada():
    return make_owner("ada")


@pytest.fixture
def bob():
    return make_owner("bob")


@pytest.fixture
def root():
    root = make_owner("root")
    root.is_superuser = root.is_staff = True
    root.save()
    return root


def symbols(rows):
    return {row.symbol for row in rows}


def calls_of(tree):
    """Return (what an attribute is taken of, the attribute) of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield getattr(node.value, "id", getattr(node.value, "attr", "")), node.attr


def test_no_other_manager_gives_owned_rows():
    found = set()
    for path in sorted(APPS.rglob("*.py")):
        inside = path.relative_to(APPS)
        if "migrations" in inside.parts or inside.parts[:2] == ("market", "queries"):
            continue
        for of, name in calls_of(ast.parse(path.read_text())):
            is_hidden = of not in ("self", "Rule") and name in ("every", "_base_manager", "_default_manager")
            if is_hidden or (inside.parts[0] in DOORS and name in ("every_asset", "every_feed")):
                found.add((str(inside), f"{of}.{name}"))
    assert found == {
        ("portfolios/bulk.py", "model._default_manager"),  # It writes the rows of a portfolio.
        ("market/models/assets.py", "Asset.every"),  # It says whether a symbol is taken.
        ("api/graphql/nodes.py", "._base_manager"),  # It names the subjects of problems that the reader sees.
    }


def test_no_door_imports_all_rows():
    found = {
        (str(path.relative_to(APPS)), alias.name)
        for door in DOORS
        for path in sorted((APPS / door).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in ("every_asset", "every_feed")
    }
    assert found == set()


def test_an_id_says_whether_its_row_has_an_owner_and_nothing_else():
    ids = {new_owned_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(is_owned(pk) and -(2**53) < pk <= -(2**52) for pk in ids)
    assert not is_owned(1)
    assert not is_owned(-1)
    assert {owned_id_of(external_id_of(pk)) for pk in ids} == ids
    assert external_id_of(7) is None
    assert [owned_id_of(one) for one in ("BTC-USD", "owned-", "owned-12", f"owned-{2**52}x")] == [None] * 4


def test_each_reader_sees_their_own_assets_and_a_superuser_all(ada, bob, root):
    make_feed("BTC-USD")
    own = make_owned(ada, "MINE")
    make_owned(bob, "HIS")
    operator = make_operator("grace", "market.view_feed", "market.view_asset")
    seen = {
        "nobody": symbols(queries.assets_seen_by(AnonymousUser())),
        "ada": symbols(queries.assets_seen_by(ada)),
        "grace": symbols(queries.assets_seen_by(operator)),
        "root": symbols(queries.assets_seen_by(root)),
        "objects": symbols(Asset.objects.all()),
    }
    installation = {"BTC-USD"}
    assert seen == {
        "nobody": installation,
        "ada": installation | {"MINE"},
        "grace": installation,
        "root": installation | {"MINE", "HIS"},
        "objects": installation,
    }
    assert list(Feed.objects.values_list("name", flat=True)) == ["feed"]
    assert [feed.name for feed in queries.feeds_seen_by(ada)] == [own.name]
    assert [feed.name for feed in queries.feeds_seen_by(operator)] == ["feed"]
    assert queries.feeds_seen_by(root).count() == 3
    assert not queries.feeds_seen_by(AnonymousUser())


def test_the_database_refuses_an_owner_that_the_id_does_not_say(ada):
    feed = make_owned(ada)
    for columns in ({"owner": ada}, {"pk": new_owned_id()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Asset(symbol="X", **columns).save(force_insert=True)
        with pytest.raises(IntegrityError), transaction.atomic():
            Feed(name="x", interval_seconds=1, **columns).save(force_insert=True)
    assert not queries.every_asset().exists()
    assert [one.pk for one in queries.every_feed()] == [feed.pk]


def test_symbols_are_unique_for_each_owner(ada, bob):
    make_feed("BTC-USD")
    make_owned(ada, "RATIO")
    make_owned(bob, "RATIO")
    for owner_id, symbol in ((ada.pk, "RATIO"), (ada.pk, "BTC-USD"), (None, "BTC-USD")):
        with pytest.raises(ValidationError, match="There is an asset of this symbol already"):
            market.create_asset(owner_id=owner_id, symbol=symbol)
    market.create_asset(owner_id=None, symbol="RATIO")
    assert queries.every_asset().filter(symbol="RATIO").count() == 3
    assert queries.assets_named(["RATIO"], owner_id=ada.pk)["RATIO"].owner_id == ada.pk
    assert queries.assets_named(["RATIO"])["RATIO"].owner_id is None


def test_a_feed_cannot_be_called_as_the_feeds_of_owners_are():
    with pytest.raises(ValidationError, match="take another name"):
        make_feed(name="owned")


def test_only_its_owner_chooses_it_and_by_symbol_alone(ada, bob):
    feed = make_owned(ada, "MINE")
    asset = queries.every_asset().get(symbol="MINE")
    queries.every_asset().update(tags=["mine"])
    index = AssetIndex()
    for chosen in (queries.assets_chosen, index.chosen):
        assert [one.pk for one in chosen(symbols=["MINE"], owner_id=ada.pk)] == [asset.pk]
        assert chosen(symbols=["MINE"], owner_id=bob.pk) == chosen(symbols=["MINE"]) == []
        assert chosen(tag="mine", owner_id=ada.pk) == chosen(feed=feed.name, owner_id=ada.pk) == []
    assert queries.known_tags(limit=5) == []
    with pytest.raises(RuleInvalid, match="there is no asset MINE"):
        make_rule(bob, assets=["MINE"], condition=above(1))


def test_a_rule_of_its_owner_is_evaluated_and_follows(ada):
    feed = make_owned(ada, "MINE")
    make_rule(ada, assets=["MINE"], condition=above(10))
    append_owned(feed, [("MINE", at(1), "9")])
    append_owned(feed, [("MINE", at(2), "11")])
    flow.evaluate_pending(feed_id=feed.pk)
    (alert,) = Alert.objects.all()
    assert (alert.asset.symbol, alert.opened_at, alert.resolved_at) == ("MINE", at(2), None)
    flow.sweep()
    assert FeedEntry.objects.filter(feed=feed).count() == 3


def test_deleting_it_ends_its_rules_and_leaves_nothing(ada):
    feed = make_owned(ada, "MINE", "OTHER")
    make_rule(ada, assets=["MINE", "OTHER"], condition=above(10))
    append_owned(feed, [("MINE", at(1), "11"), ("OTHER", at(1), "11")])
    flow.evaluate_pending(feed_id=feed.pk)
    flow.roll_up()
    first, second = queries.every_asset().order_by("symbol").values_list("pk", flat=True)
    with pytest.raises(ProtectedError):
        ada.delete()
    delete_series(asset_ids=[first], now=START)
    assert set(Quote.objects.values_list("asset", flat=True)) == {second}
    assert set(Candle.objects.values_list("asset", flat=True)) == {second}
    assert [alert.asset_id for alert in Alert.objects.all()] == [second]
    flow.evaluate_pending(feed_id=feed.pk)
    assert delete_series_of(owner_id=ada.pk, now=START) == 1
    assert not queries.every_feed().exists()
    assert not FeedEntry.objects.exists()
    assert not Quote.objects.exists()
    assert not Candle.objects.exists()


def test_what_waits_to_be_evaluated_keeps_it(ada):
    feed = make_owned(ada, "MINE")
    append_owned(feed, [("MINE", at(1), "11")])
    with pytest.raises(AssetStays, match="1 entry to evaluate"):
        delete_series(asset_ids=[queries.every_asset().get().pk], now=START)
    assert Quote.objects.exists()


def test_logs_do_not_name_its_feed(ada):
    feed = make_owned(ada, "MINE")
    record = logging.makeLogRecord({"msg": "engine rebuilt", "feed": feed.pk, "asset": new_owned_id()})
    line = json.loads(json_lines().format(record))
    assert (line["feed"], line["asset"]) == ("owned", "owned")
    assert (label_of(7), label_of(-1)) == (7, -1)
