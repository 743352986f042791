"""What the documents say is there."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils import timezone

from apps.notify.transports.registry import TRANSPORTS
from apps.pipeline.queues import other_queues
from apps.rules.engine.conditions import KINDS
from apps.rules.engine.rule import RuleSpec
from apps.setup.loading import load_setup, read_setup
from apps.sources.providers.registry import PROVIDERS
from fintech.settings.env import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TRACE = "0" * 32


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Return the anchors that a reader of Markdown gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_environments_example_lists_every_variable_with_its_default():
    lines = text(".env.example").splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]

    assert [name for name, _ in pairs] == list(VARIABLES)
    assert dict(pairs) == {name: default or "" for name, (default, _) in VARIABLES.items()}
    assert all(f"# {comment}\n{name}=" in text(".env.example") for name, (_, comment) in VARIABLES.items())


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_every_relative_link_leads_somewhere(document):
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    relative = [link.partition("#") for link in links if "://" not in link]
    targets = [(document.parent / path if path else document, anchor) for path, _, anchor in relative]

    assert [str(path) for path, _ in targets if not path.exists()] == []
    assert [anchor for path, anchor in targets if anchor and anchor not in anchors(path)] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/operations.md"])
def test_every_target_of_make_that_is_named_is_there(name):
    targets = set(re.findall(r"^([a-z-]+):.*## ", text("Makefile"), re.MULTILINE))

    assert set(re.findall(r"(?:^|`|\$ )make ([a-z-]+)", text(name), re.MULTILINE)) - targets == set()


def test_make_dev_listens_at_the_port_it_is_given_and_reads_no_file_of_settings(tmp_path):
    honcho = re.search(r"honcho (.* start.*)$", text("Makefile"), re.MULTILINE).group(1).replace("$$", "$")
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose/Procfile").write_text("web: echo listens at $PORT, mail by $EMAIL_URL.\n")
    (tmp_path / ".env").write_text("EMAIL_URL=smtp://other\n")
    environment = os.environ | {"PORT": "8001", "EMAIL_URL": "smtp://mine"}

    command = ["/bin/sh", "-c", f"{sys.executable} -m honcho {honcho}"]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert "listens at 8001, mail by smtp://mine." in finished.stdout
    assert "WEB_LISTEN=127.0.0.1:${PORT:-8000} " in text("compose/Procfile")


def test_the_layers_name_every_app():
    contracts = configparser.ConfigParser()
    contracts.read_string(text(".importlinter"))
    named = set(re.findall(r"apps\.(\w+)", contracts["importlinter:contract:apps"]["layers"]))
    there = {path.parent.name for path in (ROOT / "apps").glob("*/__init__.py")}

    assert there - named == set()


def test_every_decision_is_in_the_index():
    index = text("docs/adr/README.md")

    assert [path.name for path in sorted((ROOT / "docs/adr").glob("0*.md")) if f"({path.name})" not in index] == []


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["README.md", "docs/setup.md"])
def test_the_set_up_that_is_shown_loads(tmp_path, name):
    [block] = blocks(name, "yaml")
    file = tmp_path / "market.yaml"
    file.write_text(block, encoding="utf-8")
    owner = get_user_model().objects.create_user("ada")

    setup = read_setup(file)
    loaded = load_setup(setup, owner=owner, now=timezone.now(), trace_id=TRACE)

    assert loaded.rules == len(setup["rules"])


def test_the_rules_that_are_shown_are_read(tmp_path):
    shown = blocks("docs/rules.md", "yaml")
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n" + "".join(shown), encoding="utf-8")

    documents = read_setup(file)["rules"]
    beside = ("name", "severity", "channels")
    specs = [RuleSpec.read({key: one[key] for key in one if key not in beside}) for one in documents]

    assert len(specs) == 11


def test_every_kind_of_condition_is_documented():
    assert [kind for kind in KINDS if f"`{kind} " not in text("docs/rules.md")] == []


def test_every_provider_and_each_of_its_options_is_documented():
    feeds = text("docs/feeds.md")
    sections = {title: body for title, body in re.findall(r"^## (\w+)$(.*?)(?=^## )", feeds, re.DOTALL | re.MULTILINE)}
    recording = {"path": "usdc-depeg-2023-03.csv.gz"}
    options = {
        slug: provider.validate_options(recording if slug == "recording" else {})
        for slug, provider in PROVIDERS.items()
    }

    assert sections.keys() >= PROVIDERS.keys()
    assert [(slug, one) for slug in options for one in options[slug] if f"| `{one}` |" not in sections[slug]] == []


def test_every_reason_to_reject_a_quote_is_documented():
    sources = text("apps/market/domain.py")
    reasons = {*re.findall(r'QuoteRejected\("(\w+)"\)', sources), "unknown_asset", "conflict", "jump"}

    assert len(reasons) > 8
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in text("docs/feeds.md")] == []


def test_every_kind_of_channel_is_documented():
    assert [kind for kind in TRANSPORTS if f"`{kind}`" not in text("docs/setup.md")] == []


def test_the_queues_are_documented():
    operations = text("docs/operations.md")
    names = ["ticks", "assets-tasks", "analysis.0", "notifications", *(queue.name for queue in other_queues())]

    assert [name for name in names if f"`{name}`" not in operations] == []


def test_every_task_is_documented():
    tasks = re.findall(r'name="pipeline\.(\w+)"', text("apps/pipeline/tasks.py"))

    assert len(tasks) == 15
    assert [task for task in tasks if f"| `{task}`" not in text("docs/architecture.md")] == []


def test_every_celery_setting_that_is_documented_is_set():
    table = text("docs/operations.md").split("### Celery and RabbitMQ")[1].split("### PostgreSQL")[0]
    named = re.findall(r"`((?:task|worker|broker)_\w+)`", table)
    sources = text("fintech/celery.py")

    assert len(named) > 8
    assert [name for name in named if f"{name}=" not in sources] == []


def test_the_quota_that_is_documented_is_the_one_in_force():
    assert f"at most {settings.RULES_PER_OWNER // 1000} 000 rules" in text("docs/rules.md")
