"""Trusted documents: queries of a folder, asked for by name."""

import json

import pytest
from django.core.checks import run_checks

from apps.api.graphql import documents
from tests.api.asking import URL, codes
from tests.builders import make_owner

pytestmark = pytest.mark.django_db

WHO = "query Who($again: Boolean!) { me { username isSuperuser @include(if: $again) } }"


@pytest.fixture
def folder(tmp_path, settings):
    """Return a folder with one document."""
    settings.TRUSTED_DOCUMENTS = str(tmp_path)
    (tmp_path / "who.graphql").write_text(WHO)
    documents._documents.cache_clear()
    yield tmp_path
    documents._documents.cache_clear()


@pytest.fixture
def post(client):
    client.force_login(make_owner())
    return lambda body: client.post(URL, json.dumps(body), content_type="application/json")


def test_a_document_is_answered_by_its_name(folder, post):
    answer = post({"documentId": "who", "variables": {"again": False}})
    assert (answer.status_code, answer.json()) == (200, {"data": {"me": {"username": "ada"}}})
    assert post({"query": "{ me { username } }"}).status_code == 200


@pytest.mark.parametrize("name", ["other", "../who", "who.graphql", ""])
def test_a_name_that_no_document_has_is_refused(folder, post, name):
    answer = post({"documentId": name})
    assert (answer.status_code, codes(answer)) == (400, ["DOCUMENT_NOT_FOUND"])


def test_without_a_folder_there_are_none(post):
    assert codes(post({"documentId": "who"})) == ["DOCUMENT_NOT_FOUND"]


@pytest.mark.parametrize("body", [{"documentId": 1}, {"documentId": "who", "query": "{ me { username } }"}, {}, []])
def test_a_body_is_a_query_or_names_a_document(folder, post, body):
    assert codes(post(body)) == ["BAD_REQUEST"]


def test_nothing_else_is_answered_where_that_is_wanted(folder, post, settings):
    settings.TRUSTED_DOCUMENTS_ONLY = True
    refused = post({"query": WHO, "variables": {"again": True}})
    assert (refused.status_code, codes(refused)) == (400, ["DOCUMENT_REQUIRED"])
    assert "errors" not in post({"documentId": "who", "variables": {"again": True}}).json()


def test_the_check_names_each_file_that_cannot_be_answered(folder, settings):
    assert run_checks() == []
    deep = "{ a " * 12 + "}" * 12
    wrong = {"not-graphql": "query {", "no-field": "{ nothing }", "deep": deep, "a b": WHO}
    for name, text in wrong.items():
        (folder / f"{name}.graphql").write_text(text)
    (folder / "latin.graphql").write_bytes(b"# \xe9")
    found = {error.msg.partition(": ")[0] for error in run_checks()}
    assert found == {str(folder / f"{name}.graphql") for name in (*wrong, "latin")}
    settings.TRUSTED_DOCUMENTS = str(folder / "absent")
    assert [error.id for error in run_checks()] == ["api.E001"]
