"""What axe finds on a page: its rules of accessibility, run in the browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

_AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
# (width, colour scheme, the rules that are run: those that depend on what differs from the views before; None for all)
_VIEWS = [
    (1440, "light", None),
    (1440, "dark", ["color-contrast", "link-in-text-block"]),
    (390, "dark", None),
    (390, "light", ["color-contrast", "link-in-text-block"]),
]
_RUN = """
async ([rules, isDark]) => {
    // The admin's own switch is asked once, when a page is opened.
    if (document.documentElement.hasAttribute("x-data")) document.documentElement.classList.toggle("dark", isDark);
    const {violations} = await axe.run(document, {
        ...(rules ? {runOnly: {type: "rule", values: rules}} : {}),
        resultTypes: ["violations"], iframes: false, preload: false,
    });
    return violations.flatMap(({id, impact, nodes}) => nodes.map(node => ({
        rule: id, impact: node.impact ?? impact, element: node.target.flat().join(" "), html: node.html.slice(0, 160),
        why: [...node.any, ...node.all, ...node.none].map(check => check.message).join("; "),
    })));
}
"""


def add_to(page: Page) -> None:
    """Have axe on every page that is opened from now on. It fails where npm has not put it: a page that nobody checked
    is not accessible."""
    if not _AXE.is_file():
        pytest.fail("There is no node_modules/axe-core: run make venv-dev where npm is.")
    page.add_init_script(path=_AXE)


def violations_of(page: Page) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (view, violation) of the page that is open, wide and narrow, light and dark."""
    # Each change is one more round trip, on each of some hundred pages.
    last_width = last_scheme = None
    for width, scheme, rules in _VIEWS:
        if width != last_width:
            page.set_viewport_size({"width": width, "height": 900})
        if scheme != last_scheme:
            page.emulate_media(color_scheme=scheme)
        last_width, last_scheme = width, scheme
        for violation in page.evaluate(_RUN, [rules, scheme == "dark"]):
            yield f"{width} px, {scheme}", violation
