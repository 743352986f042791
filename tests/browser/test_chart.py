"""The times below a chart of prices: in the reader's zone, and apart from each other on a narrow page too."""

from itertools import pairwise

import pytest

from apps.accounts.models import Profile
from tests.builders import append_quotes, at, make_feed

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MINUTE, HOUR, DAY = 60, 3_600, 86_400
# Draws prices over a range. Returns [left edge, right edge, text] of each label of the times, in the order of the axis.
LABELS = """
([from, seconds]) => {
    const canvas = document.querySelector("canvas.price-chart");
    const low = [0, 1].map(place => ({x: Date.parse(from) + place * seconds * 1000, y: 100 + place}));
    window.priceChart(canvas, {low, high: low, levels: [], marks: []});
    const chart = Chart.getChart(canvas);
    return chart.scales.x.getLabelItems(chart.chartArea).map(({label, font, options}) => {
        chart.ctx.font = font.string;
        const lines = [label].flat();
        const half = Math.max(...lines.map(line => chart.ctx.measureText(line).width)) / 2;
        return [options.translation[0] - half, options.translation[0] + half, lines.join(" ")];
    });
}
"""


@pytest.fixture
def labels(owner, signed_in, live_server, page):
    """Return a function that draws a chart on the page of an asset for a reader in India, and returns its labels."""
    Profile.objects.create(user=owner, time_zone="Asia/Kolkata")
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(0), "10")])
    append_quotes(feed, [("BTC-USD", at(10), "11")])
    owner.is_superuser = True
    owner.save()
    signed_in(owner)

    page.goto(f"{live_server.url}/admin/market/asset/{feed.assets.get().pk}/change/")
    return lambda since, seconds: page.evaluate(LABELS, [since, seconds])


@pytest.mark.parametrize("width", [390, 1440])
def test_times_below_a_chart_do_not_overlap(labels, page, width):
    page.set_viewport_size({"width": width, "height": 844})
    spans = [MINUTE, 10 * MINUTE, HOUR, 7 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY, 200 * DAY, 3_000 * DAY]
    found = {seconds: labels("2026-03-02T15:10:07Z", seconds) for seconds in spans}

    assert [one for one in found.values() if not one] == []
    assert [(one, then) for each in found.values() for one, then in pairwise(each) if one[1] >= then[0]] == []


def test_times_below_a_chart_are_in_the_readers_zone_with_a_date_where_a_day_begins(labels):
    texts = [text for _, _, text in labels("2026-03-02T15:10:00Z", 7 * HOUR)]

    assert texts == ["21:00 2026-03-02", "22:00", "23:00", "00:00 2026-03-03", "01:00", "02:00", "03:00"]
