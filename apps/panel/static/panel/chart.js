// Draws what stands beside a canvas as JSON, with Unfold's copy of Chart.js: prices beside one of class "price-chart",
// counts beside one of class "bar-chart". Times and numbers are the reader's, by site/reader.js.
"use strict";
(() => {
  const SECOND = 1000;
  const MINUTE = 60 * SECOND;
  const HOUR = 60 * MINUTE;
  const DAY = 24 * HOUR;
  const STEPS = [
    ...[1, 5, 10, 30].map((count) => count * SECOND),
    ...[1, 5, 10, 30].map((count) => count * MINUTE),
    ...[1, 2, 3, 6, 12].map((count) => count * HOUR),
    ...[1, 2, 7, 14, 30, 91, 182, 365].map((count) => count * DAY),
  ];
  const COLORS = {
    light: { ink: "#4b5563", line: "#9333ea", level: "#d97706", mark: "#dc2626", calm: "#059669", grid: "#e5e7eb" },
    dark: { ink: "#d1d5db", line: "#c084fc", level: "#fbbf24", mark: "#f87171", calm: "#34d399", grid: "#374151" },
  };
  // The admin has a switch; the site's own pages follow the system.
  const system = matchMedia("(prefers-color-scheme: dark)");
  function colors() {
    const root = document.documentElement;
    const isDark = root.dataset.scheme === "system" ? system.matches : root.classList.contains("dark");
    return COLORS[isDark ? "dark" : "light"];
  }

  const LABEL_WIDTH = 76; // In pixels, with the space between two: as wide as a date.
  const { reader } = window;
  // The time at which the clocks of the zone show `local`.
  const whenShown = (local) => local - reader.ahead(local - reader.ahead(local));

  function extent(data) {
    const times = [...data.low.map((point) => point.x), ...data.marks.map((mark) => mark.at)];
    const from = Math.min(...times);
    const to = Math.max(...times);
    // A single moment would have no width.
    return from === to ? [from - MINUTE, to + MINUTE] : [from, to];
  }

  function ticksOf(axis) {
    const most = Math.max(Math.min(Math.floor(axis.width / LABEL_WIDTH), 8), 2);
    const range = axis.max - axis.min;
    const step = STEPS.find((one) => range / one <= most) || Math.ceil(range / most / (365 * DAY)) * 365 * DAY;
    axis.ticks = [];
    for (let local = Math.ceil((axis.min + reader.ahead(axis.min)) / step) * step; ; local += step) {
      const at = whenShown(local);
      if (at > axis.max) break;
      if (at >= axis.min) axis.ticks.push({ value: at });
    }
    axis.step = step;
  }

  // The date where days are told apart; else the clock, and the date below it where the chart goes over midnight.
  function labelOf(at, place, ticks) {
    const date = reader.date(at);
    if (this.step >= DAY) return date;
    const time = this.step < MINUTE ? reader.clock(at) : reader.minute(at);
    if (reader.date(this.min) === reader.date(this.max)) return time;
    const isNew = place === 0 || reader.date(ticks[place - 1].value) !== date;
    return isNew ? [time, date] : time;
  }

  // Upright lines where something happened, each with its name.
  const marks = {
    id: "marks",
    afterDatasetsDraw(chart, _, options) {
      const { ctx, chartArea, scales } = chart;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = colors().mark;
      ctx.font = "12px Inter, sans-serif";
      ctx.setLineDash([4, 3]);
      options.list.forEach((mark, place) => {
        const x = scales.x.getPixelForValue(mark.at);
        ctx.beginPath();
        ctx.moveTo(x, chartArea.top);
        ctx.lineTo(x, chartArea.bottom);
        ctx.stroke();
        ctx.textAlign = x > (chartArea.left + chartArea.right) / 2 ? "right" : "left";
        ctx.fillText(mark.name, x + (ctx.textAlign === "right" ? -4 : 4), chartArea.top + 12 + 14 * place);
      });
      ctx.restore();
    },
  };

  function datasets(data, from, to) {
    const isBand = data.low.some((point, place) => point.y !== data.high[place].y);
    const line = { borderWidth: 1.5, pointRadius: data.low.length > 60 ? 0 : 2, stepped: true };
    const paths = isBand
      ? [
          { ...line, label: "lowest", data: data.low, role: "line" },
          { ...line, label: "highest", data: data.high, role: "line", fill: "-1" },
        ]
      : [{ ...line, label: data.label || "price", data: data.low, role: "line" }];
    const levels = data.levels.map((level) => ({
      label: level.name,
      data: [{ x: from, y: level.price }, { x: to, y: level.price }],
      role: "level",
      borderWidth: 1.5,
      borderDash: [6, 4],
      pointRadius: 0,
    }));
    const others = (data.others || []).map((other) => ({ ...line, pointRadius: 0, label: other.name, data: other.points, role: "calm" }));
    // Points on the path, too many for names of their own.
    const spots = (data.spots || []).map((spot) => ({
      label: spot.name,
      data: spot.points,
      role: spot.role,
      order: -1, // Over the path.
      showLine: false,
      pointRadius: 4,
      pointHoverRadius: 6,
      pointStyle: spot.role === "calm" ? "circle" : "triangle",
    }));
    return [...paths, ...others, ...levels, ...spots];
  }

  function tint(datasets) {
    const now = colors();
    for (const dataset of datasets) {
      dataset.borderColor = dataset.pointBackgroundColor = dataset.pointBorderColor = now[dataset.role];
      dataset.backgroundColor = `${now[dataset.role]}33`;
    }
    return datasets;
  }

  function paint(chart) {
    const now = colors();
    tint(chart.data.datasets);
    for (const axis of [chart.options.scales.x, chart.options.scales.y]) {
      axis.ticks.color = now.ink;
      axis.grid.color = now.grid;
    }
    chart.options.plugins.legend.labels.color = now.ink;
    chart.update("none");
  }

  const dataBeside = (canvas) => JSON.parse(canvas.parentElement.querySelector('script[type="application/json"]').textContent);

  function draw(canvas, data) {
    const [from, to] = extent(data);
    const write = (value) => (data.isPercent ? `${reader.number(value)} %` : reader.number(value));
    const chart = new Chart(canvas, {
      type: "line",
      // Without colours from the start Chart.js would choose some.
      data: { datasets: tint(datasets(data, from, to)) },
      plugins: [marks],
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", axis: "x", intersect: false },
        scales: {
          x: {
            type: "linear",
            min: from,
            max: to,
            afterBuildTicks: ticksOf,
            grid: {},
            ticks: { autoSkip: false, maxRotation: 0, callback: labelOf },
          },
          y: { grid: {}, grace: "5%", ticks: { callback: write } },
        },
        plugins: {
          legend: { position: "bottom", labels: { boxHeight: 1, boxWidth: 24 } },
          marks: { list: data.marks },
          tooltip: {
            callbacks: {
              title: (items) => `${reader.moment(items[0].parsed.x)} ${reader.zone()}`,
              label: (item) => `${item.dataset.label} ${write(item.parsed.y)}`,
            },
          },
        },
      },
    });
    paint(chart);
    return chart;
  }

  function drawBars(canvas) {
    const data = dataBeside(canvas);
    const chart = new Chart(canvas, {
      type: "bar",
      data: {
        labels: data.labels,
        datasets: tint([{ label: data.name, data: data.values, role: "line", borderWidth: 1, maxBarThickness: 40 }]),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        scales: {
          x: { grid: {}, ticks: { maxRotation: 0, autoSkipPadding: 12 } },
          y: { grid: {}, beginAtZero: true, ticks: { precision: 0, callback: (value) => reader.number(value) } },
        },
        plugins: {
          legend: { display: false, labels: {} },
          tooltip: { callbacks: { label: (item) => `${item.dataset.label} ${reader.number(item.parsed.y)}` } },
        },
      },
    });
    paint(chart);
    return chart;
  }

  const charts = new Map();

  // For data that comes later: a canvas shows one chart at a time.
  window.priceChart = (canvas, data) => {
    charts.get(canvas)?.destroy();
    charts.set(canvas, draw(canvas, data));
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("canvas.price-chart").forEach((canvas) => charts.set(canvas, draw(canvas, dataBeside(canvas))));
    document.querySelectorAll("canvas.bar-chart").forEach((canvas) => charts.set(canvas, drawBars(canvas)));
    const repaint = () => charts.forEach(paint);
    system.addEventListener("change", repaint);
    new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["class"] });
  });
})();
