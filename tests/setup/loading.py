"""Set-up files written and loaded."""

import pytest
from django.apps import apps
from django.core.management import call_command

GOOD = """
feeds:
  - {name: spot, interval: 5s, sources: [{provider: simulated, seed: 7, start_prices: {BTC-USD: 61230.25}}]}
assets:
  - {symbol: BTC-USD, name: Bitcoin, feed: spot, tags: [crypto], aliases: [BTC], listings: {coincap: bitcoin}}
channels:
  - {name: Inbox, kind: inbox}
  - {name: Mail, kind: email, to: ada@example.org}
rules:
  - name: Bitcoin rises
    assets: {tag: crypto}
    condition: {kind: rises, percent: 0.5, window: 5m}
    for: 1m
    trigger: once
    expires_at: 2030-01-31T12:00:00Z
    severity: critical
    channels: [Inbox, Mail]
"""
FEED = "feeds: [{name: spot, interval: 5s, sources: [{provider: simulated}]}]\n"
ASSET = FEED + "assets: [{symbol: A, feed: spot}]\n"


def write(tmp_path, content):
    path = tmp_path / "setup.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def load(path, owner="ada"):
    call_command("load", str(path), owner=owner)


def refusal_of(path, capsys, **options):
    """Load a file that is refused, and return the one line that says why."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        load(path, **options)
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert printed.err.startswith("load: ")
    return printed.err.removeprefix("load: ").rstrip("\n")


def rows():
    """Return the number of rows of every table."""
    return {model.__name__: model.objects.count() for model in apps.get_models()}
