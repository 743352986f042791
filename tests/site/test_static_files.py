"""Static files by hash, compressed pages, and error pages that help."""

import gzip

import pytest
from django.templatetags.static import static
from django.test import Client

YEAR = "public, max-age=31536000, immutable"


def test_a_file_that_is_asked_for_by_its_hash_is_kept_for_a_year(client):
    address = static("site/front.css")
    assert address.startswith("/static/site/front.css?h=")
    assert client.get(address)["Cache-Control"] == YEAR


@pytest.mark.parametrize("address", ["/static/site/front.css", "/static/site/front.css?h=0", "/static/site/none?h="])
def test_by_no_hash_or_an_old_one_browsers_ask_again(client, address):
    assert client.get(address).headers.get("Cache-Control") != YEAR


def test_another_content_has_another_address(tmp_path, monkeypatch):
    file = tmp_path / "file.css"
    monkeypatch.setattr("apps.site.static_files.finders.find", lambda name: str(file))
    addresses = set()
    for text in ("a", "bb"):
        file.write_text(text)
        addresses.add(static("file.css"))
    assert len(addresses) == 2


def test_a_file_that_there_is_not_has_its_plain_address():
    assert static("none.css") == "/static/none.css"


@pytest.mark.django_db
def test_pages_and_styles_are_compressed_where_that_is_taken(settings):
    settings.MARKET_IS_PUBLIC = True
    client = Client(headers={"Accept-Encoding": "gzip"})
    for address in ("/", static("site/front.css"), "/assets/"):
        answer = client.get(address)
        assert answer["Content-Encoding"] == "gzip"
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert len(gzip.decompress(content)) > len(content)
        assert "Accept-Encoding" in answer["Vary"]
    assert "Content-Encoding" not in Client().get("/").headers


def test_pictures_and_parts_are_sent_as_they_are(client):
    client = Client(headers={"Accept-Encoding": "gzip", "Range": "bytes=0-9"})
    answer = client.get("/static/site/front.css")
    assert (answer.status_code, answer.headers.get("Content-Encoding")) == (206, None)


def test_the_icon_is_found_at_its_usual_address(client):
    assert client.get("/favicon.ico")["Location"].startswith("/static/site/icon.svg")


def test_the_page_of_nothing_finds_assets(client):
    text = client.get("/nothing/at/all").text
    assert 'action="/assets/"' in text
