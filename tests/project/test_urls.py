"""Every URL name in code and templates leads somewhere: a renamed page is found here, not by who clicks a link."""

import ast
import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.core.checks import run_checks
from django.urls import NoReverseMatch, get_resolver, reverse

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("apps/**/*.py"), *ROOT.glob("fintech/**/*.py")])
TEMPLATES = sorted(ROOT.glob("apps/**/templates/**/*"))
TAG = re.compile(r"""\{%\s*url\s+(['"])(.+?)\1""")
# Names made at run time, in code that a test of its own walks through (tests/panel/test_walk.py).
TAKES_A_NAME = ("reverse", "reverse_lazy", "redirect")


def names_in_code() -> set[tuple[str, str]]:
    """Return (file, name) of every name that is written out."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and _called(node) in TAKES_A_NAME:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add((str(path.relative_to(ROOT)), first.value))
            if isinstance(node, ast.keyword) and node.arg == "pattern_name" and isinstance(node.value, ast.Constant):
                found.add((str(path.relative_to(ROOT)), node.value.value))
    return found


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def names_in_templates() -> set[tuple[str, str]]:
    found = set()
    for path in TEMPLATES:
        if path.is_file():
            found |= {(str(path.relative_to(ROOT)), match[2]) for match in TAG.finditer(path.read_text())}
    return found


def known_names() -> set[str]:
    """Return every name that there is, those of the admin with their namespace."""
    resolver = get_resolver()
    names = {name for name in resolver.reverse_dict if isinstance(name, str)}
    for namespace, (_, inner) in resolver.namespace_dict.items():
        names |= {f"{namespace}:{name}" for name in inner.reverse_dict if isinstance(name, str)}
    return names


def test_names_are_found_in_code_and_templates():
    assert ("apps/accounts/services.py", "password_reset_confirm") in names_in_code()
    assert ("apps/site/templates/site/alerts.html", "admin:alerts_alert_change") in names_in_templates()


def test_every_url_name_leads_somewhere():
    named = names_in_code() | names_in_templates()
    known = known_names()
    assert sorted((file, name) for file, name in named if name not in known) == []


def test_an_unknown_name_would_be_found():
    assert "admin:market_film_changelist" not in known_names()
    with pytest.raises(NoReverseMatch):
        reverse("admin:market_film_changelist")


def test_djangos_checks_of_the_admins_pages_find_nothing():
    # `manage.py check` may look at them before the addresses register them.
    assert len(admin.site._registry) > 10
    assert run_checks(tags=["admin"]) == []
