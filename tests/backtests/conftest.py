"""The command `manage.py backtest` on a rule and quotes in files."""

import gzip
import json

import pytest
from django.core.management import call_command


@pytest.fixture
def tried(tmp_path, capsys):
    """Return (exit status, standard output, standard error) of the command on a rule and rows in writing."""

    def try_on(rule, rows, *options, name="quotes.csv"):
        (tmp_path / "rule.yaml").write_text(rule, encoding="utf-8")
        if rows is not None:
            content = rows if isinstance(rows, bytes) else rows.encode()
            (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        status = 0
        try:
            call_command("backtest", tmp_path / "rule.yaml", tmp_path / name, *options)
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return try_on


@pytest.fixture
def report(tried):
    """Return the report on a rule and rows in writing: its status is 1, and rows are listed, where some are wrong."""

    def of(rule, rows, *options, **more):
        status, out, errors = tried(rule, rows, "--json", *options, **more)
        found = json.loads(out)
        assert status == (1 if found["wrong"] else 0)
        name = more.get("name", "quotes.csv")
        assert errors == "".join(f"backtest: {name}, {line}\n" for line in found["wrong_lines"])
        return found

    return of
