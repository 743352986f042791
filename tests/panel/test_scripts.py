"""The scripts of the administration's pages."""

import pytest
from django.contrib.admin import site

# Scripts that write numbers and times by site/reader.js.
WRITERS = {"site/live.js", "panel/chart.js"}


def scripts_of(page):
    return [getattr(one, "_path", one) for one in page.media._js]


@pytest.mark.parametrize("model", site._registry, ids=lambda model: model._meta.label)
def test_what_writes_for_the_reader_comes_with_the_script_that_does(model):
    scripts = scripts_of(site._registry[model])
    assert "site/reader.js" in scripts or not WRITERS & set(scripts)


def test_the_pages_that_update_themselves_are_among_them():
    assert {model._meta.label for model, page in site._registry.items() if "site/live.js" in scripts_of(page)} == {
        "market.Asset",
        "notify.Channel",
    }
