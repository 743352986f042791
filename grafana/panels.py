"""Dashboards, panels and queries in Grafana's classic JSON form, as Python's dictionaries."""

from collections.abc import Iterable, Iterator
from typing import Any

PROMETHEUS = {"type": "prometheus", "uid": "fintech-prometheus"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "fintech-postgres"}
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


def table(title: str, text: str, unit: str, *targets: Target, width: int = 24, height: int = 9) -> Panel:
    """Return a table."""
    return _panel("table", title, text, targets, unit, width=width, height=height)


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
        "allValue": ".*" if several else None,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


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
