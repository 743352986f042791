"""Names use the terms of docs/glossary.md: none brings back a word that the field does not use.

Looked at are identifiers of code and tests, columns and tables, GraphQL, template variables, URLs, settings and the
keys of YAML files. Sentences are not.
"""

import ast
import re
from pathlib import Path

import pytest
import yaml
from django.apps import apps
from django.urls import get_resolver

from fintech.settings.env import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sorted(
    path
    for folder in ("apps", "fintech", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts and path != Path(__file__)
)
OLD_SEGMENTS = re.compile(
    r"judg(e|ed|es|ing|ement|ements)|owed|owes?|owing|debts?|told|tells?|telling|films?|hurr\w*|seal\w*|unseal\w*|"
    r"letters?|manners|gravest|till"
)
OLD_NAMES = {"HeldQuote", "held_by", "Act", "Acts", "acts", "Stretch", "Found", "Standing", "words"}
# Terms of the field that only look like old words: a queue of dead letters.
TERMS = {"dead_letter_queue", "DEAD_LETTERS", "_DEAD_LETTERS", "dead_letters"}


def segments(name: str) -> list[str]:
    """Return the words that a name is made of, in small letters."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_old(name: str) -> bool:
    if name in TERMS:
        return False
    return name in OLD_NAMES or any(OLD_SEGMENTS.fullmatch(one) for one in segments(name))


def identifiers(tree: ast.AST) -> set[str]:
    """Return what a module names: variables, attributes, functions, classes, parameters and keywords."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg is not None):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found |= {node.name.rpartition(".")[2], node.asname or ""}
    return found


def index_loops(tree: ast.AST) -> list[int]:
    """Return the lines of loops that call an index a place."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Tuple):
            first, call = node.target.elts[0], node.iter
            is_enumerated = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "enumerate"
            if is_enumerated and isinstance(first, ast.Name) and first.id == "place":
                lines.append(first.lineno)
    return lines


@pytest.mark.parametrize(
    "name", ["judged_at", "JudgePosition", "isTold", "make_film", "_hurry", "unseal", "Letter", "words"]
)
def test_an_old_word_is_found(name):
    assert is_old(name)


@pytest.mark.parametrize(
    "name", ["evaluated_at", "until", "stiller", "recording", "dead_letter_queue", "filmography", "Actor"]
)
def test_a_term_of_the_field_is_not(name):
    assert not is_old(name)


def test_identifiers_use_the_glossary():
    found = {}
    for path in PYTHON:
        tree = ast.parse(path.read_text())
        old = {name for name in identifiers(tree) if is_old(name)} | {f"place, line {one}" for one in index_loops(tree)}
        if old:
            found[str(path.relative_to(ROOT))] = sorted(old)
    assert found == {}


def test_modules_and_templates_are_named_by_the_glossary():
    files = [path for folder in ("apps", "fintech", "tests") for path in (ROOT / folder).rglob("*") if path.is_file()]
    named = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert sorted(name for name in named if is_old(Path(name).stem)) == []


def test_tables_and_columns_use_the_glossary():
    names = set()
    for model in apps.get_models():
        if model.__module__.startswith("apps."):
            options = model._meta
            names |= {options.db_table, *(field.name for field in options.get_fields())}
            names |= {one.name for one in [*options.indexes, *options.constraints]}
            names |= {str(value) for field in options.fields for value, _ in field.choices or []}
    assert sorted(name for name in names if is_old(name)) == []


def test_graphql_uses_the_glossary():
    schema = re.sub(r'"""[\s\S]*?"""', "", (ROOT / "apps/api/schema.graphql").read_text())
    assert sorted(name for name in set(re.findall(r"\w+", schema)) if is_old(name)) == []


def test_template_variables_use_the_glossary():
    found = {}
    for path in sorted(ROOT.glob("apps/**/templates/**/*")):
        if path.is_file():
            tags = " ".join(re.findall(r"\{\{.*?\}\}|\{%.*?%\}", path.read_text()))
            # What stands in quotes is said, not named.
            names = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'|\"[^\"]*\"", "", tags)))
            if old := sorted(name for name in names if is_old(name)):
                found[str(path.relative_to(ROOT))] = old
    assert found == {}


def test_urls_and_settings_use_the_glossary():
    patterns = [str(pattern.pattern) for pattern in get_resolver().url_patterns]
    names = {part for pattern in patterns for part in re.findall(r"\w+", pattern)} | set(VARIABLES)
    assert sorted(name for name in names if is_old(name)) == []


def keys_of(value: object) -> set[str]:
    """Return every key of a YAML value, however deep."""
    if isinstance(value, dict):
        return {str(key) for key in value} | {key for one in value.values() for key in keys_of(one)}
    return {key for one in value for key in keys_of(one)} if isinstance(value, list) else set()


def test_keys_of_yaml_files_use_the_glossary():
    files = [path for folder in ("apps", "tests") for path in (ROOT / folder).rglob("*.yaml")]
    assert files
    keys = {key for path in files for key in keys_of(yaml.safe_load(path.read_text()))}
    assert sorted(key for key in keys if is_old(key)) == []


def test_the_glossary_defines_each_term_once():
    terms = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert len(terms) > 40
    assert len(terms) == len(set(terms))
    assert terms == sorted(terms, key=str.casefold)
