"""Every page of the administration writes numbers and dates by the locale of its reader."""

import re
from html import unescape

import pytest
from django.contrib import admin

from apps.accounts.models import Profile
from tests.panel.test_walk import PAGES, ada, all_rows, own_keys

__all__ = ["ada", "all_rows"]

# What is not written for a reader: scripts, fields, and texts as a person or a program wrote them.
NOT_WRITTEN = r"<(script|style|textarea|select|pre|code|template)\b.*?</\1>|<!--.*?-->"
# Dates, groups and decimals that a German does not write so. Three digits after a point are a group.
OF_OTHERS = re.compile(r"\d{4}-\d\d-\d\d|\d\u202f\d|(?<![\d.])\d+\.(?!\d{3}\b)\d+(?![\d.])")
# Fixed texts: examples in help, a command to be copied.
FIXED = r"like 0\.5,|outside 0\.99 to 1\.01|--from \d{4}-\d\d-\d\d"
# Titles of pages that ask or list, which are made of the names of rows.
OF_NAMES = ("_delete", "_history")


def text_of(page, names):
    """Return what a reader sees of a page, without the names of rows, which are the same for everybody."""
    page = re.sub(NOT_WRITTEN, " ", page, flags=re.DOTALL)
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())
    for name in names:
        text = text.replace(name, "").replace(name[:1].upper() + name[1:], "")
    return re.sub(FIXED, "", text)


def names_of_rows():
    """Return what each row is called that is not an alert, and the messages to other owners, the longest first."""
    rows = [row for model in admin.site._registry if model.__name__ != "Alert" for row in model._base_manager.all()]
    texts = [text for row in rows for text in (getattr(row, "subject", ""), *getattr(row, "text", "").splitlines())]
    return sorted({" ".join(text.split()) for text in [*map(str, rows), *texts]} - {""}, key=len, reverse=True)


@pytest.mark.django_db
def test_a_german_reader_sees_no_number_and_no_date_of_others(client, ada):
    ada.is_staff = ada.is_superuser = True
    ada.save()
    Profile.objects.create(user=ada, locale="de", time_zone="Europe/Berlin")
    client.force_login(ada)
    seen, found, names = 0, {}, names_of_rows()
    for page in PAGES:
        for key in [] if page.name.endswith(OF_NAMES) else own_keys(ada, page, limit=3):
            answer = client.get(page.address(key))
            if answer.status_code == 200 and "html" in answer["Content-Type"]:
                seen += 1
                hits = OF_OTHERS.findall(text_of(answer.text, names))
                found |= {f"{page} {key}": hits} if hits else {}
    assert found == {}
    assert seen > len(admin.site._registry)
