"""Files of Python are short: one that has grown too long is split by what its parts are about."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("apps", "compose", "fintech", "grafana", "tests")
LINES_MOST = 500


def test_no_file_of_python_has_more_than_500_lines():
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}

    assert {path: count for path, count in lines.items() if count > LINES_MOST} == {}
    assert {path.split("/")[0] for path in lines} == set(FOLDERS)
