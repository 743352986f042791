"""Files of rule tests, written and tried."""

from io import StringIO

from django.core.management import call_command

RISES = "{assets: [A], condition: {kind: rises, percent: 10, window: 5m}}"
PASSING = f"tests:\n  - {{name: one, series: {{A: 100 110}}, rule: {RISES}, openings: [{{asset: A, at: 1m}}]}}\n"


def written(tmp_path, text, *, name="tests.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def file_of(openings="[]", *, series="100 110", rule=RISES, more=""):
    """Return a file of one test in writing."""
    return f"tests:\n  - {{name: one, series: {{A: {series}}}, rule: {rule}, openings: {openings}{more}}}\n"


def said(*paths, as_json=False):
    """Return the exit status and what the command says."""
    out = StringIO()
    try:
        call_command("testrules", *paths, *(["--json"] if as_json else []), stdout=out)
    except SystemExit as ended:
        return ended.code, out.getvalue()
    return 0, out.getvalue()
