"""Charts of prices label their axes in the reader's time zone and locale. They do not overlap on a narrow page."""

import re
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from apps.accounts.models import Profile
from apps.locales import LOCALES, Reader
from apps.wording import format_moment, format_number
from tests.builders import append_quotes, at, make_feed

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Keeps what the library of candles is given.
GIVEN = """
Object.defineProperty(window, "LightweightCharts", {
    set(library) {
        this.library = {...library, createChart(place, options) {
            window.ticks = options.timeScale.tickMarkFormatter;
            const chart = library.createChart(place, options);
            const apply = chart.applyOptions.bind(chart);
            chart.applyOptions = more => (window.given = more, apply(more));
            return chart;
        }};
    },
    get() { return this.library; },
});
"""
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
def seen_in_india(owner, signed_in, live_server, page):
    """Return a function that opens the page of an asset for a reader in India who has a locale."""

    def open_page(locale):
        Profile.objects.create(user=owner, time_zone="Asia/Kolkata", locale=locale)
        feed = make_feed("BTC-USD")
        append_quotes(feed, [("BTC-USD", at(0), "61230.25")])
        append_quotes(feed, [("BTC-USD", at(10), "61231.75")])
        owner.is_superuser = True
        owner.save()
        signed_in(owner)
        page.goto(f"{live_server.url}/admin/market/asset/{feed.assets.get().pk}/change/")

    return open_page


@pytest.fixture
def labels(seen_in_india, page):
    """Return a function that draws a chart on that page, and returns its labels."""
    seen_in_india("en")
    return lambda since, seconds: page.evaluate(LABELS, [since, seconds])


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("locale", ["en", "en-US"])
def test_times_below_a_chart_do_not_overlap(seen_in_india, page, width, locale):
    seen_in_india(locale)
    page.set_viewport_size({"width": width, "height": 844})
    spans = [MINUTE, 10 * MINUTE, HOUR, 7 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY, 200 * DAY, 3_000 * DAY]
    found = {seconds: page.evaluate(LABELS, ["2026-03-02T15:10:07Z", seconds]) for seconds in spans}

    assert [one for one in found.values() if not one] == []
    assert [(one, then) for each in found.values() for one, then in pairwise(each) if one[1] >= then[0]] == []


def test_times_below_a_chart_are_in_the_readers_zone_with_a_date_where_a_day_begins(labels):
    texts = [text for _, _, text in labels("2026-03-02T15:10:00Z", 7 * HOUR)]

    assert texts == ["21:00 2026-03-02", "22:00", "23:00", "00:00 2026-03-03", "01:00", "02:00", "03:00"]


# Returns the text of the tooltip over the last price, and the labels of the price axis.
TOOLTIP = """
() => {
    const chart = Chart.getChart(document.querySelector("canvas.price-chart"));
    chart.tooltip.setActiveElements([{datasetIndex: 0, index: chart.data.datasets[0].data.length - 1}], {x: 0, y: 0});
    chart.update();
    const {title, body} = chart.tooltip;
    return [title, body.flatMap(one => one.lines), chart.scales.y.ticks.map(one => one.label)];
}
"""


@pytest.mark.parametrize("code", LOCALES)
def test_a_chart_has_the_marks_and_forms_that_the_page_has(seen_in_india, page, code):
    seen_in_india(code)
    (title,), (line,), ticks = page.evaluate(TOOLTIP)
    reader = Reader(ZoneInfo("Asia/Kolkata"), LOCALES[code])

    assert title == f"{format_moment(at(10), reader=reader).rpartition(' ')[0]} Asia/Kolkata"
    assert line.endswith(f" {format_number('61231.75', reader=reader)}")
    price = re.compile(rf"61{re.escape(reader.locale.group_mark)}23\d({re.escape(reader.locale.decimal_mark)}\d+)?")
    assert [one for one in ticks if not price.fullmatch(one)] == []
    (label, *_) = page.evaluate(LABELS, ["2026-03-02T15:10:00Z", 7 * HOUR])
    assert label[2] == f"{at(3.5 * HOUR).astimezone(reader.zone):{reader.locale.form('%R %x')}}"


@pytest.mark.parametrize("code", ["de", "en-US"])
def test_the_candles_of_an_asset_have_the_readers_marks(seen_in_india, page, live_server, code):
    seen_in_india(code)
    # The chart of the library is drawn, so its texts are asked of what it was given.
    page.add_init_script(GIVEN)
    page.goto(f"{live_server.url}/assets/BTC-USD/")
    page.wait_for_function("window.given?.localization?.priceFormatter && window.ticks")
    texts = page.evaluate("""() => {
        const {priceFormatter, percentageFormatter, timeFormatter} = given.localization;
        const at = Date.parse("2026-03-02T12:00:00Z") / 1000;
        return [priceFormatter(61230.5), percentageFormatter(-1.5), timeFormatter(at), ticks(at, 2), ticks(at, 3)];
    }""")

    assert (
        texts
        == {
            "de": ["61.230,50", "-1,50 %", "02.03.2026 17:30:00", "02.03", "17:30"],
            "en-US": ["61,230.50", "-1.50 %", "03/02/2026 05:30:00 PM", "03/02", "05:30 PM"],
        }[code]
    )
