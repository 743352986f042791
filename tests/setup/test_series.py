"""Derived series in a set-up file, and those of the demo."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.market.derived.deriving import derive_next
from apps.market.derived.models import DerivedSeries, SeriesChange
from apps.market.models import Asset, Feed
from apps.pipeline.flow import evaluate_pending
from apps.setup import loading
from apps.setup.loading import SetupInvalid, load_setup, read_setup
from apps.sources import services as sources
from tests.builders import START, TRACE, append_quotes, at, make_owner

pytestmark = pytest.mark.django_db

FILE = """
feeds: [{name: spot, interval: 5s, jump_percent: 0, sources: [{provider: simulated}]}]
assets: [{symbol: A, feed: spot}, {symbol: B, feed: spot}]
series:
  - {symbol: A-IN-B, name: A in B, kind: ratio, legs: [A, {asset: B, max_skew: 90s}], currency: B1, tags: [ratio]}
rules: [{name: dear, assets: {tag: ratio}, condition: {kind: above, level: 3}}]
"""


def load(tmp_path, content, owner):
    path = tmp_path / "setup.yaml"
    path.write_text(content, encoding="utf-8")
    return load_setup(read_setup(path), owner=owner, now=START, trace_id=TRACE)


def test_a_file_makes_series_and_twice_changes_nothing(tmp_path):
    owner = make_owner()
    assert load(tmp_path, FILE, owner).series == 1
    asset = Asset.objects.get(symbol="A-IN-B")
    assert (asset.name, asset.currency, asset.tags, asset.owner_id) == ("A in B", "B1", ["ratio"], None)
    legs = DerivedSeries.objects.get().document["legs"]
    assert [leg["max_skew"] for leg in legs] == [10_000_000, 90_000_000]
    feed = Feed.objects.get(name="spot")
    # The skew that the file does not say stays, though the feed is slower than it was expected to be.
    for second in (0, 30, 60):
        append_quotes(feed, [("A", at(second), "8"), ("B", at(second), "2")])
    load(tmp_path, FILE, owner)
    assert SeriesChange.objects.count() == 1
    load(tmp_path, FILE.replace("90s", "80s").replace("name: A in B", "name: Other"), owner)
    assert SeriesChange.objects.count() == 2
    assert Asset.objects.get(symbol="A-IN-B").name == "Other"
    while derive_next(feed_id=asset.feed_id, now=START, trace_id=TRACE):
        evaluate_pending(feed_id=asset.feed_id)
    assert [alert.asset for alert in Alert.objects.all()] == [asset]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: ratio", "kind: sum", r"series\[0\]: kind: must be one of ratio, spread, basket"),
        ("legs: [A,", "legs: [NONE,", r"series\[0\]: legs\[0\].asset: there is no asset NONE"),
        ("symbol: A-IN-B,", "symbol: B,", r"series\[0\]: symbol: B is an asset that is not made of others"),
        ("symbol: A-IN-B,", "symbol: a,", r"series\[0\]: symbol: Use 1 to 64 capital letters"),
        ("tags: [ratio]}", "color: red}", r"series\[0\]: color is not known here"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, old, new, message):
    with pytest.raises(SetupInvalid, match=message):
        load(tmp_path, FILE.replace(old, new), make_owner())
    assert not Asset.objects.exists()


def test_the_demo_sees_usdc_lose_its_peg():
    setup = read_setup(loading.Path(loading.__file__).parent / "demo.yaml")
    begun = timezone.now().replace(microsecond=0)
    load_setup(setup, owner=make_owner(), now=begun, trace_id=TRACE)
    feed, asset = Feed.objects.get(name="usdc-depeg-recording"), Asset.objects.get(symbol="USDC-USD")
    for seconds in (0, 60):
        slot = begun + timedelta(seconds=seconds)
        sources.fetch(feed_id=feed.pk, slot=slot, now=slot, trace_id=TRACE)
        while derive_next(feed_id=asset.feed_id, now=slot, trace_id=TRACE):
            evaluate_pending(feed_id=asset.feed_id)
    (alert,) = Alert.objects.filter(asset=asset)
    assert alert.opened_at == datetime(2023, 3, 11, 7, 16, tzinfo=UTC)
    assert (alert.rule.name, alert.severity) == ("USDC is off its peg", "critical")
