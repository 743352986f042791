"""Dashboards, panels and queries in Grafana's classic JSON form, as Python's dictionaries."""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

PROMETHEUS = {"type": "prometheus", "uid": "fintech-prometheus"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "fintech-postgres"}
LOKI = {"type": "loki", "uid": "fintech-loki"}
JAEGER = {"type": "jaeger", "uid": "fintech-jaeger"}
_WIDTH = 24
Panel = dict[str, Any]
Target = dict[str, Any]


def prom(expression: str, legend: str = "") -> Target:
    """Return a query of Prometheus."""
    return {"datasource": PROMETHEUS, "expr": expression, "legendFormat": legend or "__auto", "range": True}


def now(expression: str, legend: str = "") -> Target:
    """Return a query of Prometheus for the newest value alone."""
    one = prom(expression, legend)
    return {**one, "range": False, "instant": True}


def line(expression: str, legend: str = "", *, is_now: bool = False) -> Target:
    """Return a query of Loki; is_now: for one value alone."""
    kind = "instant" if is_now else "range"
    return {"datasource": LOKI, "expr": expression, "legendFormat": legend, "queryType": kind}


def sql(statement: str, *, form: str = "time_series") -> Target:
    """Return a query of PostgreSQL, by the views of the schema dashboards."""
    return {"datasource": POSTGRES, "rawSql": statement, "rawQuery": True, "editorMode": "code", "format": form}


def _panel(kind: str, title: str, text: str, targets: Iterable[Target], unit: str, *, width: int, height: int) -> Panel:
    queries = [{"refId": chr(ord("A") + number), **target} for number, target in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": queries[0]["datasource"],
        "targets": queries,
        "fieldConfig": {"defaults": {"unit": unit, "custom": {}}, "overrides": []},
        "options": {},
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
    }


def lines(title: str, text: str, unit: str, *targets: Target, width: int = 12, height: int = 8) -> Panel:
    """Return a panel of lines over time."""
    return _panel("timeseries", title, text, targets, unit, width=width, height=height)


def number(title: str, text: str, unit: str, *targets: Target, bad: float | None = None, width: int = 6) -> Panel:
    """Return a panel with the newest value; bad: from where on it is red."""
    panel = _panel("stat", title, text, targets, unit, width=width, height=4)
    if bad is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": bad}]
        panel["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": steps}
    panel["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return panel


def table(
    title: str, text: str, unit: str, *targets: Target, width: int = 24, height: int = 9, traces: str = ""
) -> Panel:
    """Return a table; traces: the column of trace ids, which lead to the trace and to its log lines."""
    panel = _panel("table", title, text, targets, unit, width=width, height=height)
    if traces:
        links = [
            {"title": "Trace", "url": explore(JAEGER, query=_VALUE)},
            {"title": "Log lines", "url": f"/d/fintech-logs?var-trace={_VALUE}"},
        ]
        panel["fieldConfig"]["overrides"] = [
            {"matcher": {"id": "byName", "options": traces}, "properties": [{"id": "links", "value": links}]}
        ]
    return panel


def logs(title: str, text: str, *targets: Target, width: int = 24, height: int = 10) -> Panel:
    """Return a panel of log lines, the newest first."""
    panel = _panel("logs", title, text, targets, "short", width=width, height=height)
    panel["options"] = {
        "showTime": True,
        "wrapLogMessage": True,
        "enableLogDetails": True,
        "sortOrder": "Descending",
        "dedupStrategy": "none",
    }
    return panel


# The value of the cell that is clicked.
_VALUE = "${__value.raw}"


def explore(datasource: dict[str, str], *, query: str) -> str:
    """Return the address of Grafana's page Explore with a query."""
    asked = {"refId": "A", "datasource": datasource, "query": query}
    pane = {"datasource": datasource["uid"], "queries": [asked], "range": {"from": "now-6h", "to": "now"}}
    panes = quote(json.dumps({"one": pane}, separators=(",", ":")))
    return f"/explore?schemaVersion=1&orgId=1&panes={panes.replace(quote(_VALUE), _VALUE)}"


def _intro(content: str) -> Panel:
    return {
        "type": "text",
        "title": "",
        "options": {"mode": "markdown", "content": content},
        "gridPos": {"w": _WIDTH, "h": 3, "x": 0, "y": 0},
    }


def choice(name: str, label: str, query: str, datasource: dict[str, str], *, several: bool = False) -> dict[str, Any]:
    """Return a variable that readers choose."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": datasource,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {}),
    }


def typed(name: str, label: str) -> dict[str, Any]:
    """Return a variable that readers type, empty at first."""
    return {"type": "textbox", "name": name, "label": label, "query": "", "current": {"text": "", "value": ""}}


def dashboard(
    slug: str,
    title: str,
    intro: str,
    *panels: Panel,
    choices: Iterable[dict[str, Any]] = (),
    annotations: Iterable[dict[str, Any]] = (),
    since: str = "now-1h",
) -> dict[str, Any]:
    """Return a dashboard that opens with a text; the panels follow in rows from left to right."""
    placed = list(_placed([_intro(intro), *panels]))
    return {
        "uid": f"fintech-{slug}",
        "title": title,
        "tags": ["fintech"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": since, "to": "now"},
        "templating": {"list": list(choices)},
        "annotations": {"list": list(annotations)},
        "panels": placed,
    }


def _placed(panels: Iterable[Panel]) -> Iterator[Panel]:
    x = y = height = 0
    for number_, panel in enumerate(panels, start=1):
        place = panel["gridPos"]
        if x + place["w"] > _WIDTH:
            x, y, height = 0, y + height, 0
        yield {"id": number_, **panel, "gridPos": {**place, "x": x, "y": y}}
        x, height = x + place["w"], max(height, place["h"])


def quantile(share: float, name: str, by: str = "", where: str = "") -> Target:
    """Return a quantile of a histogram of ours over the last minutes."""
    groups = f"le, {by}" if by else "le"
    legend = f"{share:.0%}" + (f" {{{{{by}}}}}" if by else "")
    return prom(
        f"histogram_quantile({share}, sum by ({groups}) (rate({name}_bucket{where}[$__rate_interval])))", legend
    )
