"""Ways to stop, injected into the running demo: what its pages and inbox say, and that it ends when it is mended."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import requests

from tests.rig import wait_until

ROOT = Path(__file__).resolve().parents[2]
CLAUSES = {
    ("feed", "simulated-market", "paused"): "the feed is paused",
    ("feed", "keyless", "no_key"): "COINCAP_API_KEY is not set",
    ("feed", "sourceless", "no_source"): "the feed has no source",
    ("feed", "empty", "no_feed_asset"): "the feed has no asset",
    ("channel", "off", "off"): "it is disabled",
    ("channel", "mail", "no_mail_server"): "this site has no mail server",
    ("rule", "nobody", "notifies_nobody"): "it notifies nobody",
    ("rule", "nothing", "no_asset"): "it is evaluated on no asset",
}
NAMES = """SELECT subject, coalesce(
        CASE subject WHEN 'feed' THEN (SELECT name FROM market_feed WHERE id = subject_id)
            WHEN 'channel' THEN (SELECT name FROM notify_channel WHERE id = subject_id)
            WHEN 'rule' THEN (SELECT name FROM rules_rule WHERE id = subject_id)
            WHEN 'asset' THEN (SELECT symbol FROM market_asset WHERE id = subject_id) END, 'system'), code
    FROM health_problem"""


@contextmanager
def running_demo(folder):
    """Give (its address, a session that is signed in) of a demo that runs."""
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(folder)}
    with (folder / "demo.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--port", "0"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            found = wait_until(
                lambda: re.search(r"Open (\S+)/ and .* password (\S+)\n", (folder / "demo.log").read_text()),
                timeout_seconds=120,
            )
            site, password = found.groups()
            browser = requests.Session()
            browser.get(f"{site}/accounts/login/", timeout=30)
            data = {"username": "admin", "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            assert browser.post(f"{site}/accounts/login/?next=/admin/", data=data, timeout=30).url == f"{site}/admin/"
            yield site, browser
        finally:
            process.terminate()
            process.wait(timeout=60)


def change(folder, how):
    """Run one function of stop_demo beside the demo."""
    database = f"sqlite:///{folder}/demo.sqlite3"
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(folder), "DATABASE_URL": database}
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c"]
    code = f"from tests.project import stop_demo; stop_demo.{how}()"
    subprocess.run([*command, code], cwd=ROOT, env=environment, check=True, timeout=120)


def test_what_has_stopped_in_the_demo_says_so_until_it_is_mended(tmp_path):
    def rows(statement):
        with closing(sqlite3.connect(f"file:{tmp_path}/demo.sqlite3?mode=ro", uri=True, timeout=30)) as database:
            return set(database.execute(statement).fetchall())

    def alerts():
        open_ones = rows("SELECT summary FROM alerts_alert WHERE kind = 'health' AND resolved_at IS NULL")
        return {summary.partition(":")[0] for (summary,) in open_ones}

    def about(page):
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", browser.get(f"{site}{page}", timeout=30).text))

    with running_demo(tmp_path) as (site, browser):
        feeds = {name: f"/admin/market/feed/{pk}/change/" for name, pk in rows("SELECT name, id FROM market_feed")}
        wait_until(lambda: "Well, by the check at" in about(feeds["simulated-market"]))
        before = rows(NAMES)
        change(tmp_path, "inject")
        with suppress(AssertionError):
            wait_until(lambda: rows(NAMES) >= CLAUSES.keys(), timeout_seconds=90)
        assert CLAUSES.keys() - rows(NAMES) == set()

        dashboard = about("/admin/")
        assert {key for key, clause in CLAUSES.items() if clause[1:] not in dashboard} == set()
        feeds = {name: f"/admin/market/feed/{pk}/change/" for name, pk in rows("SELECT name, id FROM market_feed")}
        stopped = {name for kind, name, _ in CLAUSES if kind == "feed"}
        assert {name for name in stopped if "Well, by the check at" in about(feeds[name])} == set()
        assert requests.get(f"{site}/status", timeout=30).status_code == 503
        # Alerts open after a minute; an operator knows what was paused or disabled on purpose.
        subjects = {"Feed keyless", "Feed sourceless", "Feed empty", "Channel mail"}
        wait_until(lambda: alerts() == subjects, timeout_seconds=240)
        assert {name for name in subjects if name not in about("/admin/alerts/alert/")} == set()
        texts = "SELECT text FROM notify_message WHERE status = 'delivered'"
        wait_until(lambda: {name for name in subjects if name in str(rows(texts))} == subjects)

        change(tmp_path, "mend")
        wait_until(lambda: rows(NAMES) & CLAUSES.keys() == set(), timeout_seconds=120)
        wait_until(lambda: alerts() == set())
        assert rows(NAMES) <= before
