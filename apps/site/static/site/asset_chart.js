// Draws the chart of an asset from the JSON in the page: candles with volume and a crosshair by lightweight-charts, or
// without its file a plain chart by panel/chart.js. When live.js has put newer data there, it is drawn in place.
"use strict";
(() => {
    const place = document.getElementById("asset-chart");
    if (!place) return;
    const COLORS = {
        light: {ink: "#4b5563", grid: "#e5e7eb", rose: "#14713d", fell: "#b3261e", line: "#9333ea", level: "#b45309", critical: "#b3261e", warning: "#8a5a00", info: "#1a5fb4"},
        dark: {ink: "#d1d5db", grid: "#374151", rose: "#6fd695", fell: "#ff8a80", line: "#c084fc", level: "#fbbf24", critical: "#ff8a80", warning: "#f2c063", info: "#8ab8ff"},
    };
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const dataNow = () => JSON.parse(document.getElementById("asset-chart-data").textContent);
    const {reader} = window;
    // How the library calls what a tick begins: 0 a year, 1 a month, 2 a day, 3 a minute, 4 a second.
    function tick(seconds, begins) {
        const write = begins === 0 ? reader.year : begins < 3 ? reader.dayOfYear : begins === 4 ? reader.clock : reader.minute;
        return write(seconds * 1000);
    }
    // As many decimals as the asset's prices have, as far as there is room: a price of 0.0042 needs more than one of 61 230.
    const decimalsOf = (price, decimals) => Math.min(Math.max(2, 4 - Math.floor(Math.log10(Math.abs(price) || 1))), 12, decimals);

    function plain() {
        const {bars, other, levels, marks} = dataNow();
        // In percent since the first moment at which both have a price.
        const start = other ? Math.max(bars[0][0], other.points[0][0]) : 0;
        const inPercent = (points, index) => {
            const first = (points.findLast(one => one[0] <= start) ?? points[0])[index];
            return points.map(one => ({x: one[0] * 1000, y: first ? 100 * (one[index] / first - 1) : 0}));
        };
        const of = (points, index) => other ? inPercent(points, 4) : points.map(one => ({x: one[0] * 1000, y: one[index]}));
        window.priceChart(place.querySelector("canvas"), {
            low: of(bars, 3),
            high: of(bars, 2),
            levels: other ? [] : levels,
            marks: marks.slice(-5).map(mark => ({name: mark.name, at: mark.at * 1000})),
            others: other ? [{name: other.name, points: inPercent(other.points, 1)}] : [],
            isPercent: Boolean(other),
            label: other ? place.dataset.name : "price",
        });
    }

    function candles() {
        const {createChart, createSeriesMarkers, CandlestickSeries, HistogramSeries, LineSeries, CrosshairMode, PriceScaleMode} = window.LightweightCharts;
        const chart = createChart(place, {
            autoSize: true,
            layout: {attributionLogo: false, background: {color: "transparent"}},
            crosshair: {mode: CrosshairMode.Normal},
            timeScale: {timeVisible: true, secondsVisible: false, tickMarkFormatter: tick},
        });
        const series = chart.addSeries(CandlestickSeries);
        const volume = chart.addSeries(HistogramSeries, {priceScaleId: "volume", priceFormat: {type: "volume"}, lastValueVisible: false, priceLineVisible: false});
        chart.priceScale("volume").applyOptions({scaleMargins: {top: 0.85, bottom: 0}});
        const markers = createSeriesMarkers(series, []);
        let compared = null;
        let lines = [];

        function draw() {
            const colors = COLORS[dark.matches ? "dark" : "light"];
            const {bars, other, levels, marks, decimals} = dataNow();
            const isWide = place.clientWidth > 600;
            const precision = decimalsOf(bars[bars.length - 1][4], decimals);
            const withDecimals = count => value => reader.number(value, {minimumFractionDigits: count, maximumFractionDigits: count});
            const width = bars.length > 1 ? Math.min(...bars.slice(1).map((one, index) => one[0] - bars[index][0])) : 60;
            chart.applyOptions({
                layout: {textColor: colors.ink},
                localization: {
                    timeFormatter: seconds => reader.moment(seconds * 1000),
                    priceFormatter: withDecimals(precision),
                    percentageFormatter: percent => `${withDecimals(2)(percent)} %`,
                },
                grid: {vertLines: {color: colors.grid}, horzLines: {color: colors.grid}},
                rightPriceScale: {borderColor: colors.grid, mode: other ? PriceScaleMode.Percentage : PriceScaleMode.Normal},
                timeScale: {borderColor: colors.grid, secondsVisible: width < 60},
            });
            series.applyOptions({
                upColor: colors.rose, wickUpColor: colors.rose, downColor: colors.fell, wickDownColor: colors.fell,
                borderVisible: false, priceFormat: {type: "price", precision, minMove: 10 ** -precision},
            });
            series.setData(bars.map(([time, open, high, low, close]) => ({time, open, high, low, close})));
            volume.setData(bars.filter(one => one[5] !== null).map(one => ({time: one[0], value: one[5], color: `${one[4] < one[1] ? colors.fell : colors.rose}66`})));
            lines.forEach(line => series.removePriceLine(line));
            lines = other ? [] : levels.map(level => series.createPriceLine({price: level.price, title: isWide ? level.name : "", color: colors.level, lineStyle: 2, lineWidth: 1}));
            // A mark stands at the candle in which its alert opened.
            const times = bars.map(one => one[0]);
            const named = isWide && marks.length <= 8;
            markers.setMarkers(marks.map(mark => ({
                time: times.findLast(time => time <= mark.at) ?? times[0],
                position: "aboveBar", shape: "arrowDown", color: colors[mark.severity], text: named ? mark.name : "",
            })));
            if (other) {
                compared ??= chart.addSeries(LineSeries, {title: other.name, lineWidth: 2});
                compared.applyOptions({color: colors.line});
                compared.setData(other.points.map(([time, value]) => ({time, value})));
            }
        }

        draw();
        chart.timeScale().fitContent();
        dark.addEventListener("change", draw);
        return draw;
    }

    document.addEventListener("DOMContentLoaded", () => {
        let draw = plain;
        if (window.LightweightCharts) draw = candles();
        else plain();
        document.addEventListener("live", () => document.getElementById("asset-chart-data") && draw());
    });
})();
