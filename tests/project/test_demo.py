"""The demo: from a clone to a fired alert, in one process, with nothing set."""

import fcntl
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOG_LINE = re.compile(r"\{|[0-9-]+T[0-9:.]+Z \[")
ENTRY = re.compile(r"usdc-depeg-recording +#\d+ +3 quotes, as of ")


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with none of our variables but the folder of its data."""
    return subprocess.run(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )


def test_the_demo_ends_with_an_open_alert_and_its_message_in_the_inbox(tmp_path):
    done = demo(tmp_path, "--until-first-alert", "--timeout", "90", "--port", "0")

    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    found = json.loads(last)
    alert, message = found["alert"], found["message"]
    assert alert["resolved_at"] is None
    assert alert["summary"].startswith(alert["asset"])
    assert alert["evidence"]["result"] is True
    # On a slow machine the first message is about two alerts, and its subject names their assets.
    assert alert["asset"] in message["subject"]
    assert f"{alert['rule']}: {alert['asset']}" in message["text"] + message["subject"]
    assert alert["summary"] in message["text"]
    assert message["delivered_at"] is not None
    assert not list(ROOT.glob("celerybeat-schedule*"))
    # The lines before it are for people: none of them is a log line, nor, unless it was asked for, a feed entry.
    assert not ENTRY.search(done.stdout)
    assert not [line for line in lines if LOG_LINE.match(line)]
    assert [line for line in lines if f"ALERT [{alert['severity']}] {alert['rule']}: {alert['summary']}" in line]


def test_the_demo_says_that_no_alert_came_in_time(tmp_path):
    done = demo(tmp_path, "--until-first-alert", "--timeout", "0.1", "--port", "0")

    assert (done.returncode, done.stderr) == (1, "demo: no alert within 0.1 s\n")


def test_a_taken_port_is_refused_and_the_database_of_who_has_it_is_left_alone(tmp_path):
    database = tmp_path / "demo.sqlite3"
    database.write_text("in use")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        done = demo(tmp_path, "--port", str(port))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"demo: port {port} is taken; choose another with --port, or 0 for any\n"
    assert database.read_text() == "in use"


def test_a_port_that_is_none_is_refused(tmp_path):
    done = demo(tmp_path, "--port", "65536")

    assert (done.returncode, done.stderr) == (2, "demo: --port must be from 0 to 65535\n")


def test_a_second_demo_on_the_same_folder_leaves_the_first_ones_database_alone(tmp_path):
    database = tmp_path / "demo.sqlite3"
    database.write_text("in use")
    with (tmp_path / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        done = demo(tmp_path, "--port", "0")

    assert (done.returncode, done.stdout) == (2, "")
    line = "demo: another demo is running on this VAR_DIR; stop it, or set VAR_DIR to another folder\n"
    assert done.stderr == line
    assert database.read_text() == "in use"


def test_with_keep_the_next_demo_goes_on_with_what_there_was(tmp_path):
    first = demo(tmp_path, "--keep", "--entries", "--until-first-alert", "--timeout", "90", "--port", "0")
    assert (first.returncode, first.stderr) == (0, "")
    alert = json.loads(first.stdout.splitlines()[-1])["alert"]
    assert ENTRY.search(first.stdout)
    kept = tmp_path / "kept-demo.sqlite3"
    note = tmp_path / "kept-demo.password"
    assert note.stat().st_mode & 0o077 == 0
    signing_in = f"sign in as admin with the password {note.read_text()}\n"
    assert signing_in in first.stdout

    # Another demo on this folder forgets only what is its own.
    demo(tmp_path, "--timeout", "0.1", "--port", "0")
    second = demo(tmp_path, "--keep", "--timeout", "3", "--port", "0")

    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.startswith(f"Going on with {kept} …\n")
    assert signing_in in second.stdout
    assert f"{alert['rule']}: {alert['summary']}" not in second.stdout
    with closing(sqlite3.connect(kept)) as database:
        assert alert["id"] in {pk for (pk,) in database.execute("SELECT id FROM alerts_alert")}
