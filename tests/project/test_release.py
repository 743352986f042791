"""`make release`, in a repository of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = "# Changelog\n\n## [Unreleased]\n### Added\n- Something.\n\n## [0.1.0] - 2026-01-01\n- First.\n"
PROJECT = '[project]\nname = "x"\nversion = "0.1.0"\n'


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.email", "ada@example.org")
    git(tmp_path, "config", "user.name", "Ada")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def release(folder: Path, version: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "compose/release.py", version]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_release_is_a_section_a_version_a_commit_and_a_tag(repository):
    assert release(repository, "0.2.0").returncode == 0

    changelog = (repository / "CHANGELOG.md").read_text()
    assert changelog.startswith("# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2")
    assert changelog.index("- Something.") < changelog.index("## [0.1.0]")
    assert 'version = "0.2.0"' in (repository / "pyproject.toml").read_text()
    assert git(repository, "tag", "--points-at", "HEAD") == "v0.2.0\n"
    assert git(repository, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "'' is no version like 1.2.3: make release VERSION=1.2.3"),
        ("v0.2.0", "'v0.2.0' is no version like 1.2.3: make release VERSION=1.2.3"),
        ("0.1.0", "0.1.0 is not later than 0.1.0"),
    ],
)
def test_what_is_no_later_version_changes_nothing(repository, version, said):
    done = release(repository, version)

    assert (done.returncode, done.stderr) == (1, f"release: {said}\n")
    assert git(repository, "status", "--porcelain") == ""


def test_what_is_not_committed_is_not_released(repository):
    (repository / "CHANGELOG.md").write_text(CHANGELOG + "- Half a line")
    done = release(repository, "0.2.0")

    assert (done.returncode, "not committed" in done.stderr) == (1, True)
    assert git(repository, "tag") == ""


def test_a_release_without_a_change_is_refused(repository):
    assert release(repository, "0.2.0").returncode == 0
    done = release(repository, "0.3.0")

    assert (done.returncode, "nothing under Unreleased" in done.stderr) == (1, True)
