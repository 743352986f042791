"""Writes the dashboards in grafana/dashboards, in the classic JSON form that Grafana 10 and later read: `python -m
grafana.build`. A test compares them."""

import json
from pathlib import Path
from typing import Any

from grafana.application import APPLICATION
from grafana.logs import LOGS
from grafana.servers import SERVERS

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = (*APPLICATION, *SERVERS, *LOGS)


def written(one: dict[str, Any]) -> str:
    """Return a dashboard as its file has it."""
    return json.dumps(one, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in DASHBOARDS:
        (FOLDER / f"{one['uid']}.json").write_text(written(one), encoding="utf-8")
